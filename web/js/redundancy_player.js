/** Measure Redundancy: a player of how much each token's update changed from step to step, in the node. */

import { app } from "../../../scripts/app.js"
import { playerExtension } from "./player/player_extension.js"

app.registerExtension(playerExtension({
  name: "TokenCache.RedundancyPlayer", kind: "TokenCacheRedundancy", label: "redundancy_label", empty: "redundancy_empty", size: [420, 820],
}))
