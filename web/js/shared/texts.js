/** The panels' words in the language of the page. The host serves those of locales/<language>/main.json, and English is always there. */

/** @import { ComfyExtension } from "../../../../scripts/app.js" */

import { api } from "../../../../scripts/api.js"
import { app } from "../../../../scripts/app.js"
import { ENGLISH } from "./english.js"

const OURS = "tokencache" // in main.json
const WRITTEN_IN = "en"

/** @typedef {keyof typeof ENGLISH} Key */

/** @type {Record<string, Record<string, string> | undefined> | null} by language; null: not asked for yet */
let translations = null

/** @param {Key} key @param {Record<string, string | number>} [values] for the {names} in it @returns {string} */
export function text(key, values = {}) {
  const sentence = translations?.[language()]?.[key] ?? ENGLISH[key]
  return sentence.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole))
}

function language() {
  return String(app.extensionManager?.setting?.get("Comfy.Locale") ?? WRITTEN_IN)
}

/** Before nodes are made, and so before they are made anew in another language: that is what the page does when it is switched. */
async function load() {
  if (translations || language() === WRITTEN_IN) return
  try {
    const served = Object.entries(await api.getCustomNodesI18n())
    translations = Object.fromEntries(served.map(([name, texts]) => [name, /** @type {Record<string, Record<string, string>>} */ (texts)[OURS]]))
  } catch (error) {
    console.warn("TokenCache: its panels speak English, because the server does not give their translations.", error)
  }
}

/** @type {ComfyExtension} */
const extension = { name: "TokenCache.Texts", init: load, beforeConfigureGraph: load }
app.registerExtension(extension)
