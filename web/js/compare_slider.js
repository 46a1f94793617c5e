/** Compare with and without TokenCache: both pictures under a slider, and what the clock and the pixels say of them. */

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"
import { element } from "./shared/element.js"
import { head, panelExtension, quiet, warningList } from "./shared/panel.js"
import { text } from "./shared/texts.js"

const SMALL = 256 // pixels; the single pixels of such pictures are shown
const ARROWS = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1 }
const STRIDE = 5 // per cent of the picture that an arrow key moves the line; with Shift, 1

/**
 * As nodes/host/compare.py has it. psnr, ssim: one a pair of pictures; the PSNR of equal ones is null.
 * @typedef {{filename: string, subfolder: string, type: string}} SavedPicture
 * @typedef {{speedup: number, plain_seconds: number, cached_seconds: number, psnr: (number | null)[], ssim: number[], mean_psnr: number | null,
 *   mean_ssim: number, verdict: string, pictures: {plain: SavedPicture, cached: SavedPicture}[], warnings: string[], text: string}} CompareData
 */

/** @param {HTMLElement} root @param {CompareData | null} data @param {string} remark */
function draw(root, data, remark) {
  if (!data) {
    root.replaceChildren(quiet(text("compare_empty")))
    return
  }
  const alike = likeness(data.mean_psnr, data.mean_ssim)
  const facts = [
    quiet(text("compare_seconds", { plain: data.plain_seconds.toFixed(2), cached: data.cached_seconds.toFixed(2) })),
    element("div", {}, [data.pictures.length > 1 ? text("compare_mean", { likeness: alike }) : alike]),
  ]
  const [number, word, title] = [`${data.speedup.toFixed(2)}x`, text("compare_measured"), text("compare_measured_tooltip")]
  const verdict = element("div", { class: "verdict" }, [data.verdict.charAt(0).toUpperCase() + data.verdict.slice(1)])
  root.replaceChildren(
    head({ number, word, title, facts: [verdict, ...facts], copy: data.text }), stage(data), ...warningList(data.warnings),
    ...(remark ? [quiet(remark)] : []),
  )
}

/** The pictures, and below them which pair it is. @param {CompareData} data */
function stage(data) {
  const plain = element("img", { alt: text("compare_plain_picture"), draggable: false })
  const cached = element("img", { class: "cached", alt: text("compare_cached_picture"), draggable: false })
  const place = range({ max: 100, step: 0.1, value: 50, "aria-label": text("compare_slider") })
  const frame = element("div", { class: "frame" }, [
    plain, cached, element("div", { class: "line" }), element("span", { class: "name plain" }, [text("compare_plain")]),
    element("span", { class: "name with" }, [text("compare_cached")]), place,
  ])
  place.addEventListener("keydown", (event) => moveByKey(place, event))
  place.addEventListener("input", () => frame.style.setProperty("--place", `${place.value}%`))
  plain.addEventListener("load", () => {
    frame.style.setProperty("--ratio", String(plain.naturalWidth / plain.naturalHeight))
    frame.classList.toggle("small", plain.naturalWidth < SMALL)
  })
  const choice = data.pictures.length > 1 ? [pairs(data, plain, cached)] : []
  if (!choice.length) showPair(data, 0, plain, cached)
  return element("div", { class: "stage" }, [element("div", { class: "view" }, [frame]), ...choice])
}

/** Moves the line so far that one sees it; else a key would move it by a step of the mouse. @param {HTMLInputElement} place @param {KeyboardEvent} event */
function moveByKey(place, event) {
  const way = ARROWS[/** @type {keyof typeof ARROWS} */ (event.key)]
  event.stopPropagation() // else the page would move its nodes
  if (!way) return
  event.preventDefault()
  place.value = String(Number(place.value) + way * (event.shiftKey ? 1 : STRIDE))
  place.dispatchEvent(new Event("input"))
}

/** Which of several pairs is shown. @param {CompareData} data @param {HTMLImageElement} plain @param {HTMLImageElement} cached */
function pairs(data, plain, cached) {
  const count = data.pictures.length
  const which = range({ max: count - 1, step: 1, value: 0, "aria-label": text("compare_which") })
  const name = element("span", { class: "quiet" })
  const show = () => {
    const number = Number(which.value)
    showPair(data, number, plain, cached)
    name.textContent = text("compare_pair", { number: number + 1, count, likeness: likeness(data.psnr[number], data.ssim[number]) })
  }
  which.addEventListener("input", show)
  show()
  return element("div", { class: "which" }, [which, name])
}

/** @param {CompareData} data @param {number} number @param {HTMLImageElement} plain @param {HTMLImageElement} cached */
function showPair({ pictures }, number, plain, cached) {
  plain.src = address(pictures[number].plain)
  cached.src = address(pictures[number].cached)
}

/** @param {Record<string, string | number>} attributes */
function range(attributes) {
  const made = element("input", { type: "range", min: 0, ...attributes })
  made.addEventListener("pointerdown", (event) => event.stopPropagation()) // else the page would drag the node
  return made
}

/** @param {number | null} psnr @param {number} ssim */
function likeness(psnr, ssim) {
  return psnr === null ? text("compare_equal") : text("compare_likeness", { psnr: psnr.toFixed(1), ssim: ssim.toFixed(4) })
}

/** @param {SavedPicture} picture */
function address(picture) {
  return api.apiURL(`/view?${new URLSearchParams(picture)}`)
}

app.registerExtension(panelExtension({
  name: "TokenCache.Compare", kind: "TokenCacheCompare", key: "tokencache_compare", label: "compare_label", minHeight: 300, size: [420, 640], draw,
}))
