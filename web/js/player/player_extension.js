/** A player in every node of one kind. The run comes with the node's own output. */

/** @import { ComfyExtension, NodeOutput } from "../../../../scripts/app.js" */
/** @import { Key } from "../shared/texts.js" */

import { api } from "../../../../scripts/api.js"
import { outputExtension } from "../shared/node_output.js"
import { addElement, zoomThrough } from "../shared/panel.js"
import { text } from "../shared/texts.js"
import { Player } from "./player.js"

const MIN_HEIGHT = 280

/**
 * @param {object} kind
 * @param {string} kind.name of the extension
 * @param {string} kind.kind the node's id
 * @param {Key} kind.label says what is played, for screen readers
 * @param {Key} kind.empty a sentence, shown before any run
 * @param {[number, number]} kind.size the least that a new node has
 * @returns {ComfyExtension} to be registered
 */
export function playerExtension({ name, kind, label, empty, size }) {
  return outputExtension({
    name,
    kind,
    add(node) {
      const player = new Player(text(label))
      player.say(text(empty))
      player.element.addEventListener("wheel", zoomThrough, { passive: true })
      addElement(node, "player", player.element, MIN_HEIGHT, size)
      return player
    },
    identify(output) {
      if (!output.tokencache_player) return ""
      return pictureUrls(output).join(" ") || JSON.stringify(output.tokencache_player) // the host gives the pictures of every run other names
    },
    show: (player, output, remark) => player.show(output.tokencache_player?.[0], pictureUrls(output), remark),
    close: (player) => player.close(),
  })
}

/** @param {NodeOutput} output @returns {string[]} addresses of the pictures that the node saved in the host's folder for temporary files */
function pictureUrls(output) {
  const pictures = Array.isArray(output.tokencache_pictures) ? output.tokencache_pictures : []
  return pictures.map((picture) => {
    const { filename = "", subfolder = "", type = "temp" } = /** @type {Record<string, string>} */ (picture ?? {})
    return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`)
  })
}
