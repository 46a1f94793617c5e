/** Panels in nodes: the widget, the output that feeds it, and the parts that panels share. */

/** @import { ComfyExtension, HostNode } from "../../../../scripts/app.js" */
/** @import { Key } from "./texts.js" */

import { app } from "../../../../scripts/app.js"
import { element, styled } from "./element.js"
import { outputExtension } from "./node_output.js"
import { text } from "./texts.js"

const STYLE = new URL("./panel.css", import.meta.url).href
const MOST_GROWTH = 300 // pixels; a longer list of warnings scrolls
const GAP = 10 // pixels that a node which grows leaves to the next
const COPIED_FOR = 1500 // milliseconds that a button says so

/**
 * A panel in every node of one kind.
 * @template Data
 * @param {object} panel
 * @param {string} panel.name of the extension
 * @param {string} panel.kind the node's id
 * @param {string} panel.key of the node's UI output that holds the panel's data
 * @param {Key} panel.label says what the panel shows
 * @param {number} panel.minHeight in pixels
 * @param {[number, number]} panel.size the least that a new node has
 * @param {(root: HTMLElement, data: Data | null, remark: string) => void} panel.draw fills it; data: null before any run
 * @returns {ComfyExtension} to be registered
 */
export function panelExtension({ name, kind, key, label, minHeight, size, draw }) {
  return outputExtension({
    name,
    kind,
    add(node) {
      const root = panelIn(node, { label, minHeight, size })
      draw(root, null, "")
      return root
    },
    identify: (output) => (output[key]?.[0] ? JSON.stringify(output[key][0]) : ""),
    show: (root, output, remark) => draw(root, /** @type {Data} */ (output[key]?.[0]), remark),
  })
}

/**
 * An empty panel in a node, to be filled.
 * @param {HostNode} node
 * @param {{label: Key, minHeight: number, size: [number, number]}} panel as above
 * @returns {HTMLElement}
 */
export function panelIn(node, { label, minHeight, size }) {
  styled(STYLE)
  const root = element("div", { class: "tokencache-panel", role: "group", "aria-label": text(label) })
  root.addEventListener("wheel", (event) => scrollOrZoom(root, event), { passive: true })
  addElement(node, "panel", root, minHeight, size)
  new MutationObserver(() => requestAnimationFrame(() => growToFit(node, root))).observe(root, { childList: true })
  return root
}

/**
 * An element as a widget that no workflow saves.
 * @param {HostNode} node
 * @param {string} name of the widget
 * @param {HTMLElement} root
 * @param {number} minHeight in pixels
 * @param {[number, number]} size the least that the node has then
 */
export function addElement(node, name, root, minHeight, size) {
  const widget = node.addDOMWidget(name, `tokencache_${name}`, root, { serialize: false, hideOnZoom: false, getMinHeight: () => minHeight })
  widget.serialize = false
  node.setSize([Math.max(size[0], node.size[0]), Math.max(size[1], node.size[1])])
}

/** Makes a node taller where its panel has more to show than it has room for, as far as the nodes below leave room. @param {HostNode} node @param {HTMLElement} root */
function growToFit(node, root) {
  const lacking = Math.min(root.scrollHeight - root.clientHeight, MOST_GROWTH, roomBelow(node))
  if (lacking <= 0) return
  node.setSize([node.size[0], node.size[1] + lacking])
  node.setDirtyCanvas(true, true) // elements take their new place when the canvas is drawn
}

/** Pixels of the graph between a node and the next one below it. @param {HostNode} node */
function roomBelow(node) {
  const [left, , width] = node.boundingRect
  const bottom = node.pos[1] + node.size[1]
  const tops = (node.graph?.nodes ?? [])
    .map((other) => other.boundingRect)
    .filter(([x, y, across]) => y >= bottom && x < left + width && left < x + across)
    .map(([, y]) => y)
  return Math.min(...tops) - bottom - GAP
}

/** Wheel turns scroll a panel that has more to show, and else zoom the graph. @param {HTMLElement} root @param {WheelEvent} event */
function scrollOrZoom(root, event) {
  if (root.scrollHeight <= root.clientHeight + 1) zoomThrough(event)
}

/** Zooms the graph, as wheel turns over the rest of a node that is drawn on the canvas do. @param {WheelEvent} event */
export function zoomThrough(event) {
  if (!globalThis.LiteGraph?.vueNodesMode) app.canvas?.canvas?.dispatchEvent(new WheelEvent("wheel", event))
}

/** One line that says little. @param {string} words */
export function quiet(words) {
  return element("div", { class: "quiet" }, [words])
}

/**
 * The head of a panel: a large number with a word below it and a button that copies everything, and facts beside it.
 * @param {{number: string, word: string, title: string, facts: HTMLElement[], copy: string}} parts title: what the number is
 */
export function head({ number, word, title, facts, copy }) {
  const left = element("div", { class: "left", title }, [element("div", { class: "big" }, [number]), quiet(word), copyButton(copy)])
  return element("div", { class: "head" }, [left, element("div", { class: "facts" }, facts)])
}

/** Texts in plain words, or nothing where there are none. @param {string[]} warnings */
export function warningList(warnings) {
  if (!warnings.length) return []
  const lines = warnings.map((words) => element("li", {}, [words.charAt(0).toUpperCase() + words.slice(1)])) // they are written to follow a colon
  return [element("ul", { class: "warnings", "aria-label": text("warnings") }, lines)]
}

/** @param {string} words */
function copyButton(words) {
  const button = element("button", { type: "button", title: text("copy_tooltip") }, [text("copy")])
  button.addEventListener("click", async () => {
    button.textContent = (await copied(words)) ? text("copied") : text("not_copied")
    setTimeout(() => { button.textContent = text("copy") }, COPIED_FOR)
  })
  return button
}

/** Whether `words` are on the clipboard now. @param {string} words */
async function copied(words) {
  if (navigator.clipboard && globalThis.isSecureContext) {
    const done = await navigator.clipboard.writeText(words).then(() => true, () => false)
    if (done) return true
  }
  const field = element("textarea") // a page that came over plain http has only this way
  field.value = words
  document.body.append(field)
  field.select()
  const done = document.execCommand("copy")
  field.remove()
  return done
}
