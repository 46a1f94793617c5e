/** The newest output of one node among the runs that the host still remembers. */

export const HISTORY_RUNS = 24

/**
 * @param {Record<string, object>} history the host's reply to /history
 * @param {{id: string, inRoot: boolean, kind: string, workflow: string, prompt: object | null}} wanted
 *   the node's id and kind, whether it lies in a subgraph, the workflow's id, and what the workflow would run now
 * @returns {{output: object, same: boolean} | null} same: that run had the settings that the workflow has now
 */
export function newestOutput(history, wanted) {
  const runs = Object.values(history ?? {}).filter((run) => Array.isArray(run?.prompt)).sort((a, b) => b.prompt[0] - a.prompt[0])
  const found = runs.map((run) => ({ output: outputOf(run, wanted), same: samePrompt(run.prompt[2], wanted.prompt), workflow: workflowOf(run) }))
    .filter(({ output, same, workflow }) => output && (same || (workflow && workflow === wanted.workflow)))
  return found.find(({ same }) => same) ?? found[0] ?? null
}

function workflowOf(run) {
  return run.prompt[3]?.extra_pnginfo?.workflow?.id
}

function outputOf(run, { id, inRoot, kind }) {
  const prompt = run.prompt[2] ?? {}
  const names = Object.keys(run.outputs ?? {}).filter((name) => (inRoot ? name === id : name.endsWith(`:${id}`)))
  const name = names.find((each) => prompt[each]?.class_type === kind)
  return name === undefined ? null : run.outputs[name]
}

/** Whether all nodes that both would run have the same inputs. */
function samePrompt(then, now) {
  if (!then || !now) return false
  const ids = Object.keys(then)
  return ids.length > 0 && ids.every((id) => now[id]?.class_type === then[id].class_type && sameInputs(then[id].inputs, now[id].inputs))
}

function sameInputs(then = {}, now = {}) {
  const names = new Set([...Object.keys(then), ...Object.keys(now)])
  return [...names].every((name) => JSON.stringify(then[name]) === JSON.stringify(now[name]))
}
