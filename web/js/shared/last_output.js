/** What nodes last put out, where the page has not heard it itself: after a reload, from the runs that the host remembers. */

import { api } from "../../../../scripts/api.js"
import { app } from "../../../../scripts/app.js"
import { HISTORY_RUNS, newestOutput } from "../player/history.js"

export const OTHER_SETTINGS = "From this workflow's newest run, which had other settings."

/**
 * @param {object[]} nodes of one kind
 * @param {string} kind such as TokenCacheReport
 * @returns {Promise<[object, object, string][]>} of those found: node, output, and a remark or ""
 */
export async function lastOutputs(nodes, kind) {
  if (!nodes.length) return []
  const reply = await api.fetchApi(`/history?max_items=${HISTORY_RUNS}`)
  const history = await reply.json()
  const root = app.rootGraph ?? app.graph
  const prompt = await app.graphToPrompt().then((made) => made.output, () => null) // a graph that lacks nodes has none
  const found = nodes.map((node) => [node, newestOutput(history, { id: String(node.id), inRoot: node.graph === root, kind, workflow: root.id, prompt })])
  return found.filter(([, run]) => run).map(([node, run]) => [node, run.output, run.same ? "" : OTHER_SETTINGS])
}

/** As the frontend names a node's output: by its id, after its subgraph's where it lies in one. */
export function outputName(node) {
  const root = app.rootGraph ?? app.graph
  return !node.graph || node.graph === root ? String(node.id) : `${node.graph.id}:${node.id}`
}
