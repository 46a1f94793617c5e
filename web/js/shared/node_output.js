/** What a node put out, shown in the node: when it has run, when the page opens its workflow again, and, after a reload, from the host's history. */

/** @import { ComfyExtension, HostNode, NodeOutput } from "../../../../scripts/app.js" */

import { lastOutputs, outputName } from "./last_output.js"
import { perNode } from "./per_node.js"

/**
 * @template View
 * @param {object} shown
 * @param {string} shown.name of the extension
 * @param {string} shown.kind the nodes' id
 * @param {(node: HostNode) => View} shown.add puts an empty view into a new node
 * @param {(output: NodeOutput) => string} shown.identify says which run it is of; "": there is nothing for us in it
 * @param {(view: View, output: NodeOutput, remark: string) => void} shown.show fills the view
 * @param {(view: View) => void} [shown.close] when the node is gone
 * @returns {ComfyExtension} to be registered
 */
export function outputExtension({ name, kind, add, identify, show, close }) {
  const { kept, nodeCreated } = perNode(kind, added, (entry) => close?.(entry.view))

  /** @param {HostNode} node */
  function added(node) {
    const { onExecuted } = node
    node.onExecuted = function (output) {
      onExecuted?.call(this, output)
      showIn(node, output)
    }
    return { view: add(node), identity: "" }
  }

  /** @param {HostNode} node @param {NodeOutput | null | undefined} output */
  function showIn(node, output, remark = "") {
    const entry = kept.get(node)
    const identity = output && identify(output)
    if (!entry || !identity || entry.identity === identity) return
    entry.identity = identity
    show(entry.view, output, remark)
  }

  async function restore() {
    const waiting = [...kept].filter(([, { identity }]) => !identity).map(([node]) => node)
    for (const [node, output, remark] of await lastOutputs(waiting, kind)) {
      if (!kept.get(node)?.identity) showIn(node, output, remark)
    }
  }

  return {
    name,
    nodeCreated,
    afterConfigureGraph() {
      restore().catch((error) => console.warn("TokenCache: no earlier run could be read from the history.", error))
    },
    /** @param {Record<string, NodeOutput> | undefined} outputs */
    onNodeOutputsUpdated(outputs) {
      for (const node of kept.keys()) showIn(node, outputs?.[outputName(node)])
    },
  }
}
