/** What nodes last put out, where the page has not heard it itself: after a reload, from the runs that the host remembers. */

/** @import { HostNode, NodeOutput } from "../../../../scripts/app.js" */

import { api } from "../../../../scripts/api.js"
import { app } from "../../../../scripts/app.js"
import { HISTORY_RUNS, newestOutput } from "./history.js"
import { text } from "./texts.js"

/**
 * @param {HostNode[]} nodes of one kind
 * @param {string} kind such as TokenCacheReport
 * @returns {Promise<[HostNode, NodeOutput, string][]>} of those found: node, output, and a remark or ""
 */
export async function lastOutputs(nodes, kind) {
  if (!nodes.length) return []
  const root = app.rootGraph
  const workflow = root.id // as it was opened: later the page may give it another
  const reply = await api.fetchApi(`/history?max_items=${HISTORY_RUNS}`)
  const history = await reply.json()
  const prompt = await app.graphToPrompt().then((made) => made.output, () => null) // a graph that lacks nodes has none
  return nodes.flatMap((node) => {
    const run = newestOutput(history, { id: String(node.id), inRoot: node.graph === root, kind, workflow, prompt })
    return run ? [[node, run.output, run.remark && text(run.remark)]] : []
  })
}

/** As the frontend names a node's output: by its id, after its subgraph's where it lies in one. @param {HostNode} node */
export function outputName(node) {
  return !node.graph || node.graph === app.rootGraph ? String(node.id) : `${node.graph.id}:${node.id}`
}
