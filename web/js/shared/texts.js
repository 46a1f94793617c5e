/** The panels' words in the language of the page. The host serves those of locales/<language>/main.json, and English is always there. */

/** @import { ComfyExtension } from "../../../../scripts/app.js" */
/** @import { Texts } from "./translations.js" */

import { app } from "../../../../scripts/app.js"
import { ENGLISH } from "./english.js"
import { language, translations, WRITTEN_IN } from "./translations.js"

/** @typedef {keyof typeof ENGLISH} Key */

/** @type {Record<string, Texts>} by language */
let served = {}

/** @param {Key} key @param {Record<string, string | number>} [values] for the {names} in it @returns {string} */
export function text(key, values = {}) {
  const sentence = served[language()]?.tokencache?.[key] ?? ENGLISH[key]
  return sentence.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole))
}

/** Before nodes are made, and so before they are made anew in another language: that is what the page does when it is switched. */
async function load() {
  if (language() !== WRITTEN_IN) served = await translations()
}

/** @type {ComfyExtension} */
const extension = { name: "TokenCache.Texts", init: load, beforeConfigureGraph: load }
app.registerExtension(extension)
