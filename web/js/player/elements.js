/** The player's elements, without what they do. */

const STYLE = new URL("./player.css", import.meta.url).href

/** @template {keyof HTMLElementTagNameMap} T @param {T} name @returns {HTMLElementTagNameMap[T]} */
export function element(name, attributes = {}, children = []) {
  const made = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value))
  made.append(...children)
  return made
}

/** A range with its name before it. */
function slider(text, label, attributes) {
  const range = element("input", { type: "range", step: 1, min: 0, "aria-label": label, ...attributes })
  return [range, element("label", {}, text ? [text, range] : [range])]
}

/** @param {string} label says what is played */
export function playerElements(label) {
  if (!document.querySelector(`link[href="${STYLE}"]`)) document.head.append(element("link", { rel: "stylesheet", href: STYLE }))
  const stage = element("canvas", { class: "stage", role: "img" })
  const strip = element("canvas", { class: "strip", "aria-hidden": true, title: "Steps: the higher, the longer. I computes everything, P some or nothing." })
  const play = element("button", { type: "button" })
  const [step, stepRow] = slider("", "step")
  const block = element("select", { "aria-label": "block" })
  const blockRow = element("label", {}, ["block", block])
  const [opacity, opacityRow] = slider("opacity", "opacity of the tokens' colours", { max: 100, value: 60 })
  const [picture, pictureRow] = slider("", "picture")
  const pictureName = element("span")
  pictureRow.prepend(pictureName)
  const text = element("div", { class: "text", role: "status" })
  const legend = element("span", { class: "legend" })
  const notes = element("div", { class: "notes", role: "note" })
  const controls = [
    stage, text, strip, element("div", { class: "row" }, [play, stepRow]), element("div", { class: "row" }, [blockRow, opacityRow]),
    element("div", { class: "row" }, [pictureRow, legend]),
  ]
  const root = element("div", { class: "tokencache-player", tabindex: 0, role: "group", "aria-label": label }, [...controls, notes])
  return { root, controls, stage, strip, play, step, block, blockRow, opacity, opacityRow, picture, pictureRow, pictureName, text, legend, notes }
}
