/** Panels in nodes: the widget, the output that feeds it, and the parts that panels share. */

import { app } from "../../../../scripts/app.js"
import { element } from "../player/elements.js"
import { lastOutputs, outputName } from "./last_output.js"

const STYLE = new URL("./panel.css", import.meta.url).href
const COPIED_FOR = 1500 // milliseconds that a button says so

/**
 * A panel in every node of one kind.
 * @param {object} panel
 * @param {string} panel.name of the extension
 * @param {string} panel.kind the node's id
 * @param {string} panel.key of the node's UI output that holds the panel's data
 * @param {string} panel.label says what the panel shows
 * @param {number} panel.minHeight in pixels
 * @param {[number, number]} panel.size the least that a new node has
 * @param {(root: HTMLElement, data: object | null, remark: string) => void} panel.draw fills it; data: null before any run
 * @returns {object} an extension, to be registered
 */
export function panelExtension({ name, kind, key, label, minHeight, size, draw }) {
  /** @type {Map<object, {root: HTMLElement, identity: string}>} */
  const panels = new Map()

  function show(node, output, remark = "") {
    const panel = panels.get(node)
    const data = output?.[key]?.[0]
    const identity = data && JSON.stringify(data)
    if (!panel || !data || panel.identity === identity) return
    panel.identity = identity
    draw(panel.root, data, remark)
  }

  function add(node) {
    const root = panelIn(node, { label, minHeight, size })
    panels.set(node, { root, identity: "" })
    draw(root, null, "")
    const { onExecuted, onRemoved } = node
    node.onExecuted = function (output) {
      onExecuted?.call(this, output)
      show(node, output)
    }
    node.onRemoved = function () {
      onRemoved?.call(this)
      panels.delete(node)
    }
  }

  async function restore() {
    const waiting = [...panels].filter(([, panel]) => !panel.identity).map(([node]) => node)
    for (const [node, output, remark] of await lastOutputs(waiting, kind)) {
      if (!panels.get(node)?.identity) show(node, output, remark)
    }
  }

  return {
    name,
    nodeCreated(node) {
      if (node.comfyClass === kind || node.constructor?.comfyClass === kind) add(node)
    },
    afterConfigureGraph() {
      restore().catch((error) => console.warn("TokenCache: no earlier run could be read from the history.", error))
    },
    onNodeOutputsUpdated(outputs) {
      for (const node of panels.keys()) show(node, outputs?.[outputName(node)])
    },
  }
}

/** An empty panel in a node, to be filled. @param {{label: string, minHeight: number, size: [number, number]}} panel as above @returns {HTMLElement} */
export function panelIn(node, { label, minHeight, size }) {
  if (!document.querySelector(`link[href="${STYLE}"]`)) document.head.append(element("link", { rel: "stylesheet", href: STYLE }))
  const root = element("div", { class: "tokencache-panel", role: "group", "aria-label": label })
  root.addEventListener("wheel", (event) => zoomThrough(root, event), { passive: true })
  const widget = node.addDOMWidget("panel", "tokencache_panel", root, { serialize: false, hideOnZoom: false, getMinHeight: () => minHeight })
  widget.serialize = false
  node.setSize(size.map((least, axis) => Math.max(least, node.size[axis])))
  return root
}

/** Wheel turns scroll a panel that has more to show, and else zoom the graph, as over the rest of a node. */
function zoomThrough(root, event) {
  if (root.scrollHeight > root.clientHeight + 1 || globalThis.LiteGraph?.vueNodesMode) return
  app.canvas?.canvas?.dispatchEvent(new WheelEvent("wheel", event))
}

/** One line that says little. @param {string} text */
export function quiet(text) {
  return element("div", { class: "quiet" }, [text])
}

/**
 * The head of a panel: a large number with a word below it and a button that copies everything, and facts beside it.
 * @param {{number: string, word: string, title: string, facts: HTMLElement[], text: string}} parts title: what the number is
 */
export function head({ number, word, title, facts, text }) {
  const left = element("div", { class: "left", title }, [element("div", { class: "big" }, [number]), quiet(word), copyButton(text)])
  return element("div", { class: "head" }, [left, element("div", { class: "facts" }, facts)])
}

/** Texts in plain words, or nothing where there are none. @param {string[]} warnings */
export function warningList(warnings) {
  if (!warnings.length) return []
  const lines = warnings.map((text) => element("li", {}, [text.charAt(0).toUpperCase() + text.slice(1)])) // they are written to follow a colon
  return [element("ul", { class: "warnings", "aria-label": "warnings" }, lines)]
}

function copyButton(text) {
  const button = element("button", { type: "button", title: "Copy all of it as text, for a note or an issue" }, ["Copy"])
  button.addEventListener("click", async () => {
    button.textContent = (await copied(text)) ? "Copied" : "Not copied"
    setTimeout(() => { button.textContent = "Copy" }, COPIED_FOR)
  })
  return button
}

/** Whether `text` is on the clipboard now. */
async function copied(text) {
  if (navigator.clipboard && globalThis.isSecureContext) {
    const done = await navigator.clipboard.writeText(text).then(() => true, () => false)
    if (done) return true
  }
  const field = element("textarea") // a page that came over plain http has only this way
  field.value = text
  document.body.append(field)
  field.select()
  const done = document.execCommand("copy")
  field.remove()
  return done
}
