/** The newest output of one node among the runs that the host still remembers. */

/** @import { NodeOutput, Prompt } from "../../../../scripts/app.js" */

export const HISTORY_RUNS = 24

/**
 * As the host's /history has it; of its `prompt` the number, the nodes by their names, and what the page sent along.
 * @typedef {{prompt: [number, string, Prompt | null, {extra_pnginfo?: {workflow?: {id?: string}}} | null], outputs?: Record<string, NodeOutput>}} PastRun
 * @typedef {{id: string, inRoot: boolean, kind: string}} NodePlace inRoot: or else it lies in a subgraph
 */

/**
 * @param {Record<string, PastRun> | null} history the host's reply to /history
 * @param {NodePlace & {workflow: string, prompt: Prompt | null}} wanted the workflow's id, and what it would run now
 * @returns {{output: NodeOutput, remark: "" | "earlier_run" | "other_settings"} | null} remark: how it differs from this workflow as it is now
 */
export function newestOutput(history, wanted) {
  const runs = Object.values(history ?? {}).filter((run) => Array.isArray(run?.prompt)).sort((a, b) => b.prompt[0] - a.prompt[0])
  const found = runs.flatMap((run) => {
    const [output, same, workflow] = [outputOf(run, wanted), samePrompt(run.prompt[2], wanted.prompt), run.prompt[3]?.extra_pnginfo?.workflow?.id]
    const ours = Boolean(workflow) && workflow === wanted.workflow
    return output && (same || ours) ? [{ output, same, ours }] : []
  })
  const chosen = found.find(({ same, ours }) => same && ours) ?? found.find(({ same }) => same) ?? found[0]
  if (!chosen) return null
  return { output: chosen.output, remark: !chosen.same ? "other_settings" : chosen.ours ? "" : "earlier_run" }
}

/** @param {PastRun} run @param {NodePlace} place */
function outputOf({ prompt, outputs = {} }, { id, inRoot, kind }) {
  const names = Object.keys(outputs).filter((name) => (inRoot ? name === id : name.endsWith(`:${id}`)))
  const name = names.find((each) => prompt[2]?.[each]?.class_type === kind)
  return name === undefined ? null : outputs[name]
}

/** Whether all nodes that both would run have the same inputs. @param {Prompt | null} then @param {Prompt | null} now */
function samePrompt(then, now) {
  if (!then || !now) return false
  const ids = Object.keys(then)
  return ids.length > 0 && ids.every((id) => now[id]?.class_type === then[id].class_type && sameInputs(then[id].inputs, now[id].inputs))
}

/** @param {Record<string, unknown>} [then] @param {Record<string, unknown>} [now] */
function sameInputs(then = {}, now = {}) {
  const names = new Set([...Object.keys(then), ...Object.keys(now)])
  return [...names].every((name) => JSON.stringify(then[name]) === JSON.stringify(now[name]))
}
