/** Token Heatmap Preview: a player of the run in the node. */

import { app } from "../../../scripts/app.js"
import { playerExtension } from "./player/player_extension.js"

app.registerExtension(playerExtension({
  name: "TokenCache.HeatmapPlayer", kind: "TokenCacheHeatmap", label: "heatmap_label", empty: "heatmap_empty", size: [360, 480],
}))
