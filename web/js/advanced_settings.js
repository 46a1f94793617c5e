/** Nodes that are drawn on the canvas: advanced settings are out of sight until a button shows them. Nodes 2.0 has such a button of its own. */

/** @import { HostNode } from "../../../scripts/app.js" */

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"
import { text } from "./shared/texts.js"

const KINDS = ["TokenCacheApply", "TokenCacheTrainPredictor"]
const SHOWN = "tokencache_all_settings" // a property of the node, which a workflow keeps
const BUTTON = "all_settings"
const WIDGET_HEIGHT = 24 // pixels, with the gap to the next

/** @type {Set<HostNode>} */
const nodes = new Set()

/** @param {HostNode} node */
function show(node) {
  const all = Boolean(node.properties?.[SHOWN]) || Boolean(globalThis.LiteGraph?.vueNodesMode)
  const before = node.computeSize()[1]
  for (const widget of node.widgets ?? []) {
    const { options, linkedWidgets } = /** @type {{options?: {advanced?: boolean}, linkedWidgets?: {hidden?: boolean}[]}} */ (widget)
    if (options?.advanced) for (const each of [widget, ...(linkedWidgets ?? [])]) each.hidden = !all
    if (widget.name === BUTTON) widget.label = text(all ? "settings_fewer" : "settings_all")
  }
  const change = node.computeSize()[1] - before
  if (change) node.setSize([node.size[0], node.size[1] + change])
}

/** Nodes 2.0 hides advanced settings by itself, and makes a node higher where it shows them: they need no room before. @param {HostNode} node */
function leaveOutAdvanced(node) {
  const { computeSize } = node
  node.computeSize = function (...given) {
    const [width, height] = computeSize.apply(this, given)
    if (!globalThis.LiteGraph?.vueNodesMode) return [width, height]
    const advanced = (node.widgets ?? []).filter(({ hidden, options }) => !hidden && /** @type {{advanced?: boolean}} */ (options)?.advanced)
    return [width, height - advanced.length * WIDGET_HEIGHT]
  }
}

/** @param {HostNode} node */
function nodeCreated(node) {
  if (!KINDS.includes(node.comfyClass ?? "")) return
  nodes.add(node)
  const { onRemoved, onConfigure } = node
  const button = node.addWidget("button", BUTTON, "", () => {
    node.setProperty(SHOWN, !node.properties?.[SHOWN])
    show(node)
  }, { serialize: false, canvasOnly: true })
  button.serialize = false
  node.onConfigure = function (...saved) {
    const [width, height] = saved[0].size ?? node.size
    onConfigure?.apply(this, saved)
    show(node)
    node.setSize([Math.max(width, node.size[0]), Math.max(height, node.computeSize()[1])])
  }
  node.onRemoved = function () {
    onRemoved?.call(this)
    nodes.delete(node)
  }
  leaveOutAdvanced(node)
  show(node)
  if (globalThis.LiteGraph?.vueNodesMode) node.setSize([node.size[0], node.computeSize()[1]])
}

api.addEventListener("graphChanged", () => nodes.forEach(show)) // such as the other way of drawing nodes
app.registerExtension({ name: "TokenCache.AdvancedSettings", nodeCreated })
