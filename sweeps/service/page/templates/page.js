"use strict";
// Users' text reaches the page by textContent alone.
const at = (id) => document.getElementById(id);

async function ask(path, body, method) {
  const reads = body === undefined && method === undefined;
  if (!reads) at("errors").textContent = "";  // a curve that is read behind the user must not hide an answer
  const sent = body === undefined ? { method: method || "GET" } : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  };
  let lines = ["error: the service: must answer, got nothing that can be read; try again in a minute"];
  try {
    const answer = await fetch(path, sent);
    const found = await answer.json();
    if (answer.ok) return found;
    lines = found.errors || [answer.statusText];
  } catch (error) {
    console.warn(error);  // the service is being started again, or a proxy answers
  }
  at("errors").textContent = lines.join("\n");
  return null;
}

function rowOf(...cells) {
  const row = document.createElement("tr");
  for (const cell of cells) {
    const place = row.appendChild(document.createElement("td"));
    if (cell instanceof Node) place.append(cell); else place.textContent = cell;
  }
  return row;
}

const split = (text) => text.split(/\s+/).filter(Boolean);
// One id for what a form holds: sent twice, by a double click or after a lost answer, it is one sweep.
const ids = new Map();
function idOf(body) {
  const key = JSON.stringify(body);
  if (!ids.has(key)) ids.set(key, Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16)).join("-"));
  return ids.get(key);
}

function newSweep(form) {
  const send = form.querySelector("[value=send]");
  form.addEventListener("input", () => { send.disabled = true; });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { config: form.elements.config.value, overrides: split(form.elements.overrides.value) };
    at("reply").textContent = "planning…";
    const sending = event.submitter && event.submitter.value === "send";
    const found = await ask(sending ? "/sweeps" : "/plan", sending ? { ...body, client_id: idOf(body) } : body);
    at("reply").textContent = found ? [...found.notes, found.text].join("\n") : "";
    send.disabled = !found;
    if (found && sending) location.href = "/page/sweeps/" + encodeURIComponent(found.id);
  });
}

function liveSweep(box) {
  const place = "/sweeps/" + encodeURIComponent(box.dataset.name);
  for (const button of box.querySelectorAll("[data-act]")) {
    button.addEventListener("click", async () => {
      const found = await ask(`${place}/${button.dataset.act}`, {});
      if (found) at("state").textContent = found.asked ? `${found.state}, to ${found.asked}` : found.state;
      watch();
    });
  }
  const remove = box.querySelector("[data-delete]");
  if (remove) remove.addEventListener("click", async () => {
    if (!confirm(`Delete ${box.dataset.name} with its folder?`)) return;
    if (await ask(place, undefined, "DELETE")) location.href = "/";
  });
  cloneForm(at("clone"), place);
  let stream = null, sizes = {}, listed = "";
  const curves = new Map();
  async function draw(now) {
    for (const [trial, size] of Object.entries(now)) {
      if (sizes[trial] === size) continue;
      const steps = await ask(`${place}/trials/${encodeURIComponent(trial)}/curve`);
      if (steps && steps.length) {
        const y = steps.map((one) => (one.loss === null || one.base_loss === null ? one.loss : one.loss - one.base_loss));
        curves.set(trial, { name: trial, x: steps.map((one) => one.step), y, mode: "lines" });
      }
    }
    sizes = now;
    const clear = "rgba(0,0,0,0)", color = getComputedStyle(document.body).color;
    const grid = { gridcolor: "#8884", zerolinecolor: "#888a" };
    const axes = { xaxis: { ...grid, title: { text: "step" } }, yaxis: { ...grid, title: { text: "nats a token" } }, font: { color },
      margin: { t: 10, r: 10, b: 50, l: 60 }, height: 400 };
    if (curves.size) {
      Plotly.react(at("curves"), [...curves.values()], { ...axes, paper_bgcolor: clear, plot_bgcolor: clear }, { responsive: true });
    }
  }
  function listTrials(states) {
    const live = at("state").textContent.startsWith("running") && "own" in at("trial-rows").dataset;
    at("trial-rows").replaceChildren(...Object.entries(states).map(([trial, state]) => {
      if (state || !live) return rowOf(trial, state || "not ended", "");
      const button = Object.assign(document.createElement("button"), { textContent: `Drop ${trial}` });
      button.addEventListener("click", async () => {
        if (await ask(`${place}/trials/${encodeURIComponent(trial)}/stop`, {})) button.replaceWith("is being dropped");
      });
      return rowOf(trial, "running", button);
    }));
  }
  function watch() {
    if (stream) stream.close();
    stream = new EventSource(`${place}/events`);
    stream.onmessage = (event) => {
      const row = JSON.parse(event.data);
      at("state").textContent = row.queue || row.state;
      at("trials").textContent = row.trials;
      at("cost").textContent = row.cost;
      at("verdict").textContent = row.verdict;
      const known = JSON.stringify([row.trial_states, row.state]);
      if (known !== listed) listTrials(row.trial_states);  // a button must not vanish under a pointer
      listed = known;
      draw(row.curve_bytes);
      // The server ends the stream with the sweep; the browser would ask again.
      if (!["queued", "running", "paused", "planned"].includes(row.state)) stream.close();
    };
  }
  watch();
}

function cloneForm(form, place) {
  const send = form.querySelector("[value=send]"), table = at("changes").parentElement;
  form.addEventListener("input", () => { send.disabled = true; });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const sending = event.submitter && event.submitter.value === "send";
    const body = { name: form.elements.name.value, overrides: split(form.elements.overrides.value) };
    at("reply").textContent = "planning…";
    const found = await ask(`${place}/clone`, sending ? { ...body, client_id: idOf(body) } : { ...body, plan_only: true });
    at("reply").textContent = found ? (sending ? `queued ${found.id}` : found.text) : "";
    send.disabled = !found || sending;
    table.hidden = !found;
    const rows = found ? Object.entries(found.changes) : [];
    at("changes").replaceChildren(...rows.map(([key, [old, now]]) => rowOf(key, JSON.stringify(old), JSON.stringify(now))));
  });
}

if (at("new")) newSweep(at("new"));
if (at("sweep")) liveSweep(at("sweep"));
