/** Apply TokenCache and I-Step Scheduler: settings that have no effect as the node stands are greyed out, and say why. */

/** @import { HostNode } from "../../../scripts/app.js" */

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"
import { RULES } from "./overridden/rules.js"
import { element } from "./shared/element.js"
import { text } from "./shared/texts.js"

const LABEL = '[data-testid="widget-layout-field-label"]' // of a widget in Nodes 2.0
const IN_LINES = "{ white-space: normal; word-break: keep-all }" // there a label is cut off where its line ends, and so would be the reason
/** @type {Set<HostNode>} */
const nodes = new Set()
/** @type {WeakMap<object, string | undefined>} what the widgets are called otherwise */
const names = new WeakMap()
const style = element("style")
document.head.append(style)

/** @param {HostNode} node */
function show(node) {
  const reasons = RULES[node.comfyClass ?? ""](node)
  for (const widget of node.widgets ?? []) {
    const reason = reasons.get(widget.name)
    if (!reason && !names.has(widget)) continue
    if (!names.has(widget)) names.set(widget, widget.label)
    const name = names.get(widget)
    widget.disabled = Boolean(reason && !reason.possible)
    widget.label = reason ? `${name ?? widget.name}: ${text(reason.words, reason.values)}` : name
    if (!reason) names.delete(widget)
  }
  node.setDirtyCanvas(true)
}

function showAll() {
  for (const node of nodes) show(node)
  style.textContent = [...nodes].map(({ id }) => `[data-node-id="${id}"] ${LABEL} ${IN_LINES}`).join("\n")
}

/** @param {HostNode} node */
function nodeCreated(node) {
  if (!((node.comfyClass ?? "") in RULES)) return
  nodes.add(node)
  const { onConnectionsChange, onRemoved } = node
  node.onConnectionsChange = function (...change) {
    onConnectionsChange?.apply(this, change)
    queueMicrotask(showAll)
  }
  node.onRemoved = function () {
    onRemoved?.call(this)
    nodes.delete(node)
  }
  for (const widget of node.widgets ?? []) {
    const { callback } = widget
    widget.callback = function (...values) {
      callback?.apply(this, values)
      showAll()
    }
  }
  show(node)
}

api.addEventListener("graphChanged", showAll) // such as a node that was bypassed
app.registerExtension({ name: "TokenCache.OverriddenSettings", nodeCreated, afterConfigureGraph: showAll })
