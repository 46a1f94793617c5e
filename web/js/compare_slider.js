/** Compare with and without TokenCache: both pictures under a slider, and what the clock and the pixels say of them. */

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"
import { element } from "./player/elements.js"
import { head, panelExtension, quiet, warningList } from "./shared/panel.js"

const SMALL = 256 // pixels; the single pixels of such pictures are shown
const EMPTY = "Run the workflow to see both pictures, how alike they are, and the clock."
const MEASURED = "The whole sampling without TokenCache, in seconds, over that with it, both after a warm-up. Decoding is not in it."

/**
 * As nodes/compare.py has it. psnr, ssim: one a pair of pictures; the PSNR of equal ones is null.
 * @typedef {{filename: string, subfolder: string, type: string}} SavedPicture
 * @typedef {{speedup: number, plain_seconds: number, cached_seconds: number, psnr: (number | null)[], ssim: number[], mean_psnr: number | null,
 *   mean_ssim: number, pictures: {plain: SavedPicture, cached: SavedPicture}[], warnings: string[], text: string}} CompareData
 */

/** @param {HTMLElement} root @param {CompareData | null} data @param {string} remark */
function draw(root, data, remark) {
  if (!data) {
    root.replaceChildren(quiet(EMPTY))
    return
  }
  const facts = [
    element("div", {}, ["by the clock, measured in this run"]),
    quiet(`${data.plain_seconds.toFixed(2)} s without, ${data.cached_seconds.toFixed(2)} s with TokenCache`),
    element("div", {}, [`${data.pictures.length > 1 ? "mean " : ""}${likeness(data.mean_psnr, data.mean_ssim)}`]),
  ]
  const number = `${data.speedup.toFixed(2)}x`
  root.replaceChildren(
    head({ number, word: "measured", title: MEASURED, facts, text: data.text }), stage(data), ...warningList(data.warnings), ...(remark ? [quiet(remark)] : []),
  )
}

/** The pictures, and below them which pair it is. @param {CompareData} data */
function stage(data) {
  const plain = element("img", { alt: "without TokenCache", draggable: false })
  const cached = element("img", { class: "cached", alt: "with TokenCache", draggable: false })
  const place = range({ max: 100, step: 0.1, value: 50, "aria-label": "how much of the picture is without TokenCache" })
  const frame = element("div", { class: "frame" }, [
    plain, cached, element("div", { class: "line" }), element("span", { class: "name plain" }, ["without"]),
    element("span", { class: "name with" }, ["with"]), place,
  ])
  place.addEventListener("input", () => frame.style.setProperty("--place", `${place.value}%`))
  plain.addEventListener("load", () => {
    frame.style.setProperty("--ratio", plain.naturalWidth / plain.naturalHeight)
    frame.classList.toggle("small", plain.naturalWidth < SMALL)
  })

  const which = range({ max: data.pictures.length - 1, step: 1, value: 0, "aria-label": "which picture" })
  const name = element("span", { class: "quiet" })
  const show = () => {
    const number = Number(which.value)
    plain.src = address(data.pictures[number].plain)
    cached.src = address(data.pictures[number].cached)
    name.textContent = `${number + 1} of ${data.pictures.length}: ${likeness(data.psnr[number], data.ssim[number])}`
  }
  which.addEventListener("input", show)
  show()
  const choice = data.pictures.length > 1 ? [element("div", { class: "which" }, [which, name])] : []
  return element("div", { class: "stage" }, [element("div", { class: "view" }, [frame]), ...choice])
}

/** @returns {HTMLInputElement} */
function range(attributes) {
  const made = element("input", { type: "range", min: 0, ...attributes })
  made.addEventListener("pointerdown", (event) => event.stopPropagation()) // else the page would drag the node
  return made
}

/** @param {number | null} psnr @param {number} ssim */
function likeness(psnr, ssim) {
  return psnr === null ? "the same to the last bit" : `PSNR ${psnr.toFixed(1)} dB, SSIM ${ssim.toFixed(4)}`
}

/** @param {SavedPicture} picture */
function address(picture) {
  return api.apiURL(`/view?${new URLSearchParams(picture)}`)
}

app.registerExtension(panelExtension({
  name: "TokenCache.Compare", kind: "TokenCacheCompare", key: "tokencache_compare", label: "Comparison with and without TokenCache",
  minHeight: 300, size: [380, 820], draw,
}))
