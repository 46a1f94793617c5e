/** Nodes that are drawn on the canvas: advanced settings are out of sight until a button shows them. Nodes 2.0 has such a button of its own. */

/** @import { HostNode } from "../../../scripts/app.js" */

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"
import { text } from "./shared/texts.js"

const KINDS = ["TokenCacheApply", "TokenCacheTrainPredictor"]
const SHOWN = "tokencache_all_settings" // a property of the node, which a workflow keeps
const BUTTON = "all_settings"

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

/** The height without advanced settings, which Nodes 2.0 hides by itself in a node that is as high as with them. @param {HostNode} node */
function heightOfFew(node) {
  const advanced = (node.widgets ?? []).filter((widget) => /** @type {{options?: {advanced?: boolean}}} */ (widget).options?.advanced)
  for (const widget of advanced) widget.hidden = true
  const height = node.computeSize()[1]
  for (const widget of advanced) widget.hidden = false
  return height
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
  show(node)
  if (globalThis.LiteGraph?.vueNodesMode) node.setSize([node.size[0], heightOfFew(node)])
}

api.addEventListener("graphChanged", () => nodes.forEach(show)) // such as the other way of drawing nodes
app.registerExtension({ name: "TokenCache.AdvancedSettings", nodeCreated })
