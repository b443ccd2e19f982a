// Making a space: its description and note are written once it is there.

import { Problem, call } from "./api.js";
import { actions } from "./forms.js";

actions.set("create", async (form, { description, note, ...wanted }) => {
  // What was made stays made, should the second request fail and the form be sent again.
  form.dataset.made ||= (await call("POST", form.dataset.path, wanted)).id;
  const path = encodeURIComponent(form.dataset.made);
  if (description || note) {
    await call("PATCH", `/api/v1/spaces/${path}`, { description, note }).catch((error) => {
      const detail = `The space was made, and what is said of it not written: ${error.message}`;
      throw new Problem({ detail, status: error.status });
    });
  }
  return `/spaces/${path}`;
});
