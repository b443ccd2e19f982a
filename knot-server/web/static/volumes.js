// The page of volumes. What becomes of a volume shows in its space: the list is rendered anew when one changes.

import "./forms.js";
import { listen } from "./live.js";
import { renew } from "./renew.js";

const PAUSE = 1_000;
let soon = null;

function later() {
  soon ??= setTimeout(() => {
    soon = null;
    renew().catch(() => {});
  }, PAUSE);
}

listen({ space: later, "space-deleted": later, server: later }, () => renew());
