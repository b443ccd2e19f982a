// The page of servers, kept as this server sees them.

import { call } from "./api.js";
import { insertByName, listen, setPart, showPart } from "./live.js";

const list = document.querySelector("#servers");

function upsert(server) {
  let row = list.querySelector(`[data-server="${CSS.escape(server.id)}"]`);
  const appears = !row;
  row ??= document.querySelector("#server-row").content.firstElementChild.cloneNode(true);
  row.dataset.server = server.id;
  row.dataset.observed = server.state;
  setPart(row, "name", server.name);
  setPart(row, "state", server.state);
  setPart(row, "zone", server.zone || "–");
  setPart(row, "platforms", server.platforms?.join(", ") || "–");
  setPart(row, "quic", server.quic);
  const ahead = server.clock_ahead;
  setPart(row, "clock", ahead ? `clock ${Math.floor(Math.abs(ahead) / 60)} min ${ahead > 0 ? "ahead" : "behind"}` : "");
  showPart(row, "clock", Boolean(ahead));
  showPart(row, "this", server.this);
  if (appears) insertByName(list, row);
}

async function refill() {
  const { servers } = await call("GET", "/api/v1/servers");
  const known = new Set(servers.map(({ id }) => id));
  for (const row of [...list.children]) if (!known.has(row.dataset.server)) row.remove();
  servers.forEach(upsert);
}

listen({ server: upsert }, refill);
