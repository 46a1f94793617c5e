/** Notes and titles of the pack's templates speak the language of the page: as a workflow is opened, each that equals one of ours, in whatever language, is put into it. What a user has written equals none, and stays. */

/** @import { Texts } from "./shared/translations.js" */

import { app } from "../../../scripts/app.js"
import { language, translations, WRITTEN_IN } from "./shared/translations.js"

const NOTES = ["Note", "MarkdownNote"]
const OURS = /^TokenCache/

/**
 * From each text in each language to the same in the page's.
 * @param {Record<string, Texts>} served
 * @param {"tokencache_notes" | "tokencache_titles"} kind
 */
function inPagesLanguage(served, kind) {
  const [english, here] = [served[WRITTEN_IN]?.[kind] ?? {}, served[language()]?.[kind] ?? {}]
  const pairs = Object.values(served).flatMap((texts) => Object.entries(texts[kind] ?? {}))
  return new Map(pairs.map(([key, text]) => [text, here[key] ?? english[key] ?? text]))
}

/** @param {{nodes: {type: string, title?: string, widgets_values?: unknown}[]}} workflow as it is about to be opened */
async function beforeConfigureGraph({ nodes }) {
  if (!nodes.some(({ type }) => OURS.test(type))) return
  const served = await translations()
  const [notes, titles] = [inPagesLanguage(served, "tokencache_notes"), inPagesLanguage(served, "tokencache_titles")]
  for (const node of nodes) {
    if (node.title) node.title = titles.get(node.title) ?? node.title
    if (!NOTES.includes(node.type) || !Array.isArray(node.widgets_values)) continue
    node.widgets_values = node.widgets_values.map((written) => notes.get(written) ?? written)
  }
}

app.registerExtension({ name: "TokenCache.TemplateTexts", beforeConfigureGraph })
