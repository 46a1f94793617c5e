/** Something of ours in every node of one kind, for as long as the node is on the page. */

/** @import { HostNode } from "../../../../scripts/app.js" */

/**
 * @template Kept
 * @param {string} kind the nodes' id, such as TokenCacheReport
 * @param {(node: HostNode) => Kept} make for a new node
 * @param {(kept: Kept) => void} [close] when its node is gone
 * @returns {{kept: Map<HostNode, Kept>, nodeCreated: (node: HostNode) => void}} nodeCreated: the extension's
 */
export function perNode(kind, make, close) {
  /** @type {Map<HostNode, Kept>} */
  const kept = new Map()

  /** @param {HostNode} node */
  function nodeCreated(node) {
    if (node.comfyClass !== kind && node.constructor.comfyClass !== kind) return
    const made = make(node)
    kept.set(node, made)
    const { onRemoved } = node
    node.onRemoved = function () {
      onRemoved?.call(this)
      kept.delete(node)
      close?.(made)
    }
  }
  return { kept, nodeCreated }
}
