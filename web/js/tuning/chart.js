/** A chart of the trials of a tuning: speed-up against likeness, the goal as a line, the default and the best marked, as measured on other samples once they are. */

import { made, number, roundStep } from "../shared/svg.js"
import { text } from "../shared/texts.js"

const MARGIN = { left: 40, top: 8, right: 12, bottom: 30 } // pixels
const LABEL_EVERY = { x: 45, y: 22 } // pixels between two numbers of an axis, at least
const AROUND = 0.08 // of the range, beyond the outermost trials

/**
 * As tokencache_core/tuning/tuner.py has them.
 * @typedef {{speedup: number, likeness: number, i_steps: number, reaches: boolean}} Trial
 * @typedef {{kind: "speed-up" | "psnr" | "ssim", value: number}} Goal
 * @typedef {{at: (value: number) => number, from: number, to: number}} Axis at: in pixels
 */

/**
 * @param {HTMLElement} place filled with the chart, as large as it is
 * @param {{trials: Trial[], goal: Goal, best: number | null, default: number | null, measured: [number, number] | null,
 *   measured_default: [number, number] | null}} tuning
 */
export function drawTrials(place, { trials, goal, best, default: ours, measured, measured_default: measuredOurs }) {
  const [width, height] = [place.clientWidth, place.clientHeight]
  const bySpeed = goal.kind === "speed-up"
  if (!trials.length || width < 100 || height < 80) {
    place.replaceChildren()
    return
  }
  const marks = [mark("default", measuredOurs, trials[ours ?? -1]), mark("best", measured, trials[best ?? -1])].flat()
  const unmarked = trials.filter((_, index) => (index !== best || measured) && (index !== ours || measuredOurs))
  const points = [...unmarked.map((trial) => ({ ...trial, kind: trial.reaches ? "reaches" : "misses", r: 3 })), ...marks]
  const x = axis([...points.map(({ speedup }) => speedup), ...(bySpeed ? [goal.value] : [])], MARGIN.left, width - MARGIN.right)
  const y = axis([...points.map(({ likeness }) => likeness), ...(bySpeed ? [] : [goal.value])], height - MARGIN.bottom, MARGIN.top)
  const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom]
  const grid = [
    ...ticks(x, (right - left) / LABEL_EVERY.x).flatMap((value) => [
      made("line", { class: "grid", x1: x.at(value), x2: x.at(value), y1: top, y2: bottom }),
      made("text", { x: x.at(value), y: bottom + 13, "text-anchor": "middle" }, [`${number(value)}x`]),
    ]),
    ...ticks(y, (bottom - top) / LABEL_EVERY.y).flatMap((value) => [
      made("line", { class: "grid", x1: left, x2: right, y1: y.at(value), y2: y.at(value) }),
      made("text", { x: left - 5, y: y.at(value) + 3.5, "text-anchor": "end" }, [number(value)]),
    ]),
    made("text", { x: (left + right) / 2, y: bottom + 26, "text-anchor": "middle" }, [text(goal.kind === "ssim" ? "tuning_axes_ssim" : "tuning_axes")]),
  ]
  const at = bySpeed ? { x1: x.at(goal.value), x2: x.at(goal.value), y1: top, y2: bottom } : { x1: left, x2: right, y1: y.at(goal.value), y2: y.at(goal.value) }
  const dots = points.map(({ kind, speedup, likeness, r }) => made("circle", { class: kind, cx: x.at(speedup), cy: y.at(likeness), r }))
  place.replaceChildren(made("svg", { width, height, viewBox: `0 0 ${width} ${height}` }, [...grid, made("line", { class: "goal", ...at }), ...dots]))
}

/** As measured on other samples, or else as tried. @param {string} kind @param {[number, number] | null} found @param {Trial | undefined} trial */
function mark(kind, found, trial) {
  const [speedup, likeness] = found ?? (trial ? [trial.speedup, trial.likeness] : [])
  return speedup === undefined || likeness === undefined ? [] : [{ kind, speedup, likeness, r: 5 }]
}

/** @param {number[]} values @param {number} start in pixels @param {number} end in pixels @returns {Axis} */
function axis(values, start, end) {
  const [least, most] = [Math.min(...values), Math.max(...values)]
  const around = (most - least || Math.abs(most) || 1) * AROUND
  const [from, to] = [least - around, most + around]
  return { from, to, at: (value) => start + ((end - start) * (value - from)) / (to - from) }
}

/** Round numbers between the ends of an axis. @param {Axis} axis @param {number} room how many there may be */
function ticks({ from, to }, room) {
  const step = roundStep((to - from) / Math.max(1, Math.floor(room)))
  const first = Math.ceil(from / step)
  return Array.from({ length: Math.floor(to / step) - first + 1 }, (_, index) => (first + index) * step)
}
