/** A chart of values against time, the values on a logarithmic scale. */

/** @import { Key } from "../shared/texts.js" */

import { made, number, roundStep } from "../shared/svg.js"
import { text } from "../shared/texts.js"

const MARGIN = { left: 46, top: 8, right: 12, bottom: 30 } // pixels
const LABEL_EVERY = { x: 45, y: 18 } // pixels between two numbers of an axis, at least
/** From so many seconds on; how many of them it has; its name. @type {[number, number, Key][]} */
const UNITS = [[7200, 3600, "chart_hours"], [180, 60, "chart_minutes"], [0, 1, "chart_seconds"]]

/**
 * @typedef {{name: string, points: [number, number][], dots: boolean}} Line name: the CSS class that gives the colour; points: seconds and value
 * @typedef {{left: number, top: number, right: number, bottom: number}} Box of the curves, in pixels
 * @typedef {(value: number) => number} Scale to pixels
 */

/** @param {HTMLElement} place filled with the chart, as large as it is @param {Line[]} lines */
export function drawChart(place, lines) {
  const [width, height] = [place.clientWidth, place.clientHeight]
  const shown = lines.map((line) => ({ ...line, points: line.points.filter(([, value]) => value > 0) }))
  const all = shown.flatMap(({ points }) => points)
  const box = { left: MARGIN.left, top: MARGIN.top, right: width - MARGIN.right, bottom: height - MARGIN.bottom }
  if (!all.length || box.right - box.left < 20 || box.bottom - box.top < 20) {
    place.replaceChildren()
    return
  }
  const longest = Math.max(...all.map(([seconds]) => seconds)) || 1
  const [low, high] = range(all.map(([, value]) => value))
  /** @type {Scale} */
  const x = (seconds) => box.left + ((box.right - box.left) * seconds) / longest
  /** @type {Scale} */
  const y = (value) => box.bottom - ((box.bottom - box.top) * Math.log(value / low)) / Math.log(high / low)
  const svg = made("svg", { width, height, viewBox: `0 0 ${width} ${height}` }, [
    ...valueAxis(low, high, y, box), ...timeAxis(longest, x, box), ...shown.flatMap((line) => drawn(line, x, y)),
  ])
  place.replaceChildren(svg)
}

/** The scale's ends: a factor of two apart or more, else noise would look like progress. @param {number[]} values */
function range(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)]
  const wider = Math.max(1.1, Math.sqrt(2 / (most / least)))
  return [least / wider, most * wider]
}

/** @param {number} low @param {number} high @param {Scale} y @param {Box} box */
function valueAxis(low, high, y, box) {
  const room = Math.max(2, Math.floor((box.bottom - box.top) / LABEL_EVERY.y))
  return valueTicks(low, high, room).flatMap((value) => [
    made("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }),
    made("text", { x: box.left - 5, y: y(value) + 3.5, "text-anchor": "end" }, [number(value)]),
  ])
}

/** As many round numbers as there is room for: 1, 1.5, 2, 3, ... of each power of ten, or fewer. @param {number} low @param {number} high @param {number} room */
function valueTicks(low, high, room) {
  /** @type {number[]} */
  const powers = []
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) powers.push(power)
  const choices = [[1, 1.5, 2, 3, 4, 5, 6, 8], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]]
  const ticks = choices.map((parts) => powers.flatMap((power) => parts.map((part) => Number(`${part}e${power}`))).filter((value) => value >= low && value <= high))
  const fitting = ticks.find((each) => each.length <= room) ?? ticks[ticks.length - 1]
  return fitting.filter((_, index) => index % Math.ceil(fitting.length / room) === 0)
}

/** @param {number} longest @param {Scale} x @param {Box} box */
function timeAxis(longest, x, box) {
  const [, unit, name] = UNITS.find(([from]) => longest >= from) ?? UNITS[UNITS.length - 1]
  const every = roundStep(longest / unit / Math.max(1, Math.floor((box.right - box.left) / LABEL_EVERY.x)))
  const parts = [made("text", { x: (box.left + box.right) / 2, y: box.bottom + 26, "text-anchor": "middle" }, [text(name)])]
  for (let index = 0; index * every * unit <= longest; index++) {
    const place = x(index * every * unit)
    parts.push(made("line", { class: "grid", x1: place, x2: place, y1: box.top, y2: box.bottom }))
    parts.push(made("text", { x: place, y: box.bottom + 13, "text-anchor": "middle" }, [number(index * every)]))
  }
  return parts
}

/** @param {Line} line @param {Scale} x @param {Scale} y */
function drawn({ name, points, dots }, x, y) {
  const path = made("polyline", { class: name, points: points.map(([seconds, value]) => `${x(seconds).toFixed(1)},${y(value).toFixed(1)}`).join(" ") })
  const marked = dots || points.length === 1 ? points : []
  return [path, ...marked.map(([seconds, value]) => made("circle", { class: name, cx: x(seconds), cy: y(value), r: points.length > 60 ? 2 : 3 }))]
}
