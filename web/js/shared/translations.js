/** The pack's texts in all its languages, as the host serves them of locales/. */

import { api } from "../../../../scripts/api.js"
import { app } from "../../../../scripts/app.js"

export const WRITTEN_IN = "en"

/**
 * As in main.json: the panels' words, and what stands in the templates, by key.
 * @typedef {Record<string, string>} Words
 * @typedef {{tokencache?: Words, tokencache_notes?: Words, tokencache_titles?: Words}} Texts
 */

/** @type {Promise<Record<string, Texts>> | null} null: not asked for yet, or in vain */
let asked = null

export function language() {
  return String(app.extensionManager?.setting?.get("Comfy.Locale") ?? WRITTEN_IN)
}

/** Texts by language; none if the server does not give them. @returns {Promise<Record<string, Texts>>} */
export function translations() {
  asked ??= ask()
  return asked
}

async function ask() {
  try {
    return /** @type {Record<string, Texts>} */ (await api.getCustomNodesI18n())
  } catch (error) {
    console.warn("TokenCache: it speaks English, because the server does not give its translations.", error)
    asked = null
    return {}
  }
}
