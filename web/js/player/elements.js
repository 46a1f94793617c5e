/** The player's elements, without what they do. */

import { element, styled } from "../shared/element.js"
import { text } from "../shared/texts.js"

const STYLE = new URL("./player.css", import.meta.url).href

/**
 * A range with its name before it.
 * @param {string} name
 * @param {string} label for screen readers
 * @param {Record<string, number>} [attributes]
 * @returns {[HTMLInputElement, HTMLLabelElement]}
 */
function slider(name, label, attributes) {
  const range = element("input", { type: "range", step: 1, min: 0, "aria-label": label, ...attributes })
  return [range, element("label", {}, name ? [name, range] : [range])]
}

/** @param {string} label says what is played */
export function playerElements(label) {
  styled(STYLE)
  const stage = element("canvas", { class: "stage", role: "img" })
  const strip = element("canvas", { class: "strip", "aria-hidden": true, title: text("player_strip") })
  const play = element("button", { type: "button" })
  const [step, stepRow] = slider("", text("player_step"))
  const block = element("select", { "aria-label": text("player_block") })
  const blockRow = element("label", {}, [text("player_block"), block])
  const [opacity, opacityRow] = slider(text("player_opacity"), text("player_opacity_label"), { max: 100, value: 60 })
  const [picture, pictureRow] = slider("", text("player_picture"))
  const pictureName = element("span")
  pictureRow.prepend(pictureName)
  const line = element("div", { class: "text", role: "status" })
  const legend = element("span", { class: "legend" })
  const notes = element("div", { class: "notes", role: "note" })
  const controls = [
    stage, line, strip, element("div", { class: "row" }, [play, stepRow]), element("div", { class: "row" }, [blockRow, opacityRow]),
    element("div", { class: "row" }, [pictureRow, legend]),
  ]
  const root = element("div", { class: "tokencache-player", tabindex: 0, role: "group", "aria-label": label }, [...controls, notes])
  return { root, controls, stage, strip, play, step, block, blockRow, opacity, opacityRow, picture, pictureRow, pictureName, line, legend, notes }
}
