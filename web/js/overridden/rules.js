/** Which of a node's settings have no effect as the node stands, and why. */

/** @import { HostNode } from "../../../../scripts/app.js" */
/** @import { Key } from "../shared/texts.js" */

/**
 * Why a setting has no effect; possible: it depends on what the file holds, so that the setting stays open.
 * @typedef {{words: Key, values?: Record<string, string>, possible?: boolean}} Reason
 * @typedef {Map<string, Reason>} Reasons by the name of the widget
 */

const SETTINGS = ["cache_ratio", "forecast_order", "forecast_reach", "corrector", "last_blocks", "context", "shares"]
const OF_A_PREDICTOR = ["cache_ratio", "forecast_order", "forecast_reach", "last_blocks", "context", "shares"]
const AWAY = [2, 4] // modes of a node that is muted or bypassed
const USED_BY = { // I-Step Scheduler: setting -> policies that look at it
  interval: ["uniform", "two-phase"],
  second_interval: ["two-phase"],
  split: ["two-phase"],
  warmup: ["uniform", "count", "two-phase"],
  steps: ["explicit"],
  count: ["automatic", "count", "percentile"],
  speed_up: ["automatic", "count", "percentile"],
  error_bound: ["error-bound"],
}

/** @type {Record<string, (node: HostNode) => Reasons>} by the nodes' id */
export const RULES = { TokenCacheApply: ofApply, TokenCacheIStepScheduler: ofScheduler }

/** @param {HostNode} node */
function ofApply(node) {
  const [schedule, preset, predictor] = ["schedule", "preset", "predictor"].map((name) => source(node, name))
  /** @type {Reasons} */
  const reasons = new Map()
  if (value(node, "forecast_order") === 0) reasons.set("forecast_reach", { words: "overridden_by_order" })
  if (value(node, "cache_ratio") === 1) for (const name of ["context", "shares"]) reasons.set(name, { words: "overridden_by_whole_forecast" })
  if (value(node, "cache_ratio") === 0) {
    for (const name of ["speed_up", ...SETTINGS.slice(1)]) reasons.set(name, { words: "overridden_by_no_cache" })
  }
  if (preset) for (const name of SETTINGS) reasons.set(name, { words: "overridden_by_preset" })
  if (predictor) for (const name of OF_A_PREDICTOR) reasons.set(name, { words: "overridden_by_predictor", possible: true })
  if (schedule) reasons.set("speed_up", { words: "overridden_by_schedule" })
  else if (preset) reasons.set("speed_up", { words: "overridden_by_preset" })
  else if (predictor && value(node, "speed_up") === 0) reasons.set("speed_up", { words: "overridden_by_interval", possible: true })
  const placedBy = schedule ? (isAutomatic(schedule) ? null : "overridden_by_schedule") : reasons.get("speed_up")?.words
  if (placedBy) reasons.set("calibrate_on_first_run", { words: placedBy })
  return reasons
}

/** @param {HostNode} node */
function ofScheduler(node) {
  const policy = String(value(node, "policy"))
  /** @type {Reasons} */
  const reasons = new Map()
  for (const [name, policies] of Object.entries(USED_BY)) {
    if (!policies.includes(policy)) reasons.set(name, { words: "overridden_by_policy", values: { policy } })
  }
  const speedUp = value(node, "speed_up")
  if (typeof speedUp === "number" && speedUp > 0 && !reasons.has("count")) reasons.set("count", { words: "overridden_by_speed_up" })
  return reasons
}

/** Whether calibrations have a say in a schedule. @param {HostNode | "unknown"} scheduler */
function isAutomatic(scheduler) {
  return scheduler === "unknown" || scheduler.comfyClass !== "TokenCacheIStepScheduler" || value(scheduler, "policy") === "automatic"
}

/** What is connected to an input: a node, or something outside of this graph, or nothing. @param {HostNode} node @param {string} name */
function source(node, name) {
  const link = node.inputs?.find((input) => input.name === name)?.link
  if (link === null || link === undefined) return null
  const origin = /** @type {HostNode | null | undefined} */ (node.graph?.getNodeById(node.graph.getLink(link)?.origin_id ?? -1))
  if (!origin) return "unknown"
  return AWAY.includes(origin.mode) ? null : origin
}

/** A setting's value; undefined where another node gives it. @param {HostNode} node @param {string} name */
function value(node, name) {
  const linked = node.inputs?.some((input) => input.widget?.name === name && input.link !== null && input.link !== undefined)
  return linked ? undefined : node.widgets?.find((widget) => widget.name === name)?.value
}
