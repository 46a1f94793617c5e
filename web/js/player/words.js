/** What the player says of a run. */

/** @import { Found, Run } from "./run.js" */
/** @import { Key } from "../shared/texts.js" */

import { text } from "../shared/texts.js"

/** Words that tokencache_core writes, and that are translated here. @type {Record<string, Key>} */
const WRITTEN = { forecast: "player_forecast", computed: "player_computed", "mean change": "player_mean_change" }

/** One line on a step. @param {Run} run @param {number} number of the step @param {Found | null} found what is drawn of it */
export function stepText(run, number, found) {
  const { kind, seconds, compute } = run.steps[number]
  const words = [placeText(run, number), kind, `${seconds.toFixed(3)} s`]
  if (found) {
    words.push(shareText(run, found))
    if (found.known < found.ran) words.push(text("player_known", { known: found.known, count: found.ran }))
  } else if (run.grid) words.push(text("player_not_kept"))
  else words.push(text("player_compute", { percent: (100 * compute).toFixed(0) }))
  return words.join(text("player_comma"))
}

/** Solvers may evaluate more than once a step. @param {Run} run @param {number} number */
function placeText({ steps }, number) {
  const step = steps[number].index + 1
  const several = new Set(steps.map((each) => each.index)).size < steps.length
  if (several) return text("player_evaluation_of", { number: number + 1, count: steps.length, step })
  return text("player_step_of", { step, steps: steps[steps.length - 1].index + 1 })
}

/** @param {Run} run @param {Found} found */
function shareText(run, { values }) {
  const share = values.reduce((sum, value) => sum + value, 0) / values.length
  if (run.measure) return text("player_measure", { what: translated(run.measure.name), percent: percent(share * run.measure.full) })
  return text("player_share", { what: translated(run.legend[1]), percent: percent(share) })
}

/** @param {Run} run @param {number} number of the picture @param {number} count of those that can be chosen */
export function pictureText(run, number, count) {
  const frames = run.frames.length
  if (frames === 1) return text("player_picture_of", { number: number + 1, count })
  const frame = text("player_frame_of", { number: (number % frames) + 1, count: frames })
  return run.images === 1 ? frame : text("player_video", { number: Math.floor(number / frames) + 1, frame })
}

/** What the colours mean, the lower first. @param {Run} run */
export function legendTexts({ legend, measure }) {
  if (!measure) return legend.map(translated)
  return [legend[0], text("player_or_more", { percent: Number((100 * measure.full).toPrecision(6)) })]
}

/** @param {string} written */
function translated(written) {
  return WRITTEN[written] ? text(WRITTEN[written]) : written
}

/** @param {number} share */
function percent(share) {
  return `${(100 * share).toFixed(share && share < 0.1 ? 1 : 0)} %`
}
