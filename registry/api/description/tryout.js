// Sends the request that a form describes, and shows its answer as text, whatever is in it.
"use strict";

const LONGEST = 100000;

function address(form) {
  let path = form.dataset.path;
  const query = new URLSearchParams();
  for (const field of form.querySelectorAll("input")) {
    if (field.dataset.in === "path") {
      path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
    } else if (field.value !== "") {
      for (const value of field.dataset.list ? field.value.split(",") : [field.value]) {
        query.append(field.name, value.trim());
      }
    }
  }
  return query.size ? `${path}?${query}` : path;
}

async function send(form, shown) {
  const headers = {};
  const token = document.getElementById("token").value;
  if (token !== "") headers.Authorization = `Bearer ${token}`;
  const body = form.querySelector("textarea");
  if (body) headers["Content-Type"] = "application/json";
  const method = form.dataset.method;
  const url = address(form);
  shown.textContent = `${method} ${url}\n...`;
  const answer = await fetch(url, { method, headers, body: body ? body.value : undefined });
  const text = await answer.text();
  let written = text;
  try {
    written = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // it is no JSON, and shown as it is
  }
  const more = written.length > LONGEST ? `\n... ${written.length - LONGEST} more characters` : "";
  shown.textContent = `${method} ${url}\n${answer.status} ${answer.statusText}\n\n${written.slice(0, LONGEST)}${more}`;
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  const shown = event.target.querySelector("output pre");
  send(event.target, shown).catch((error) => { shown.textContent = String(error); });
});
