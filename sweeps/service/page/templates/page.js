"use strict";
// Users' text reaches the page by textContent alone.
const at = (id) => document.getElementById(id);

async function ask(path, body) {
  at("errors").textContent = "";
  const sent = body === undefined ? {} : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  };
  const answer = await fetch(path, sent);
  const found = await answer.json();
  if (answer.ok) return found;
  at("errors").textContent = (found.errors || [answer.statusText]).join("\n");
  return null;
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
  at("clone").addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target.elements;
    const body = { name: form.name.value, overrides: split(form.overrides.value) };
    at("reply").textContent = "planning…";
    const found = await ask(`${place}/clone`, { ...body, client_id: idOf(body) });
    at("reply").textContent = found ? `queued ${found.id}\n${JSON.stringify(found.changes, null, 1)}` : "";
  });
  let stream = null, sizes = {};
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
    const axes = { xaxis: { title: { text: "step" } }, yaxis: { title: { text: "nats a token" } }, font: { color },
      margin: { t: 10, r: 10, b: 50, l: 60 } };
    if (curves.size) {
      Plotly.react(at("curves"), [...curves.values()], { ...axes, paper_bgcolor: clear, plot_bgcolor: clear }, { responsive: true });
    }
  }
  function watch() {
    if (stream) stream.close();
    stream = new EventSource(`${place}/events`);
    stream.onmessage = (event) => {
      const row = JSON.parse(event.data);
      at("state").textContent = row.queue || row.state;
      at("trials").textContent = row.trials;
      at("cost").textContent = (row.device_seconds / 3600).toFixed(3);
      at("verdict").textContent = row.verdict;
      draw(row.curve_bytes);
      // The server ends the stream with the sweep; the browser would ask again.
      if (!["queued", "running", "paused", "planned"].includes(row.state)) stream.close();
    };
  }
  watch();
}

if (at("new")) newSweep(at("new"));
if (at("sweep")) liveSweep(at("sweep"));
