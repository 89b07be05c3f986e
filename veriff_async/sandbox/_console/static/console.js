// Live pages: relative times, copying, and a refresh of the page when the sandbox reports a change.
"use strict";

(() => {
  const body = document.body;

  // Idiomorph must not change a form while a person fills it in: it has focus, or a value that was changed.
  const isChanged = (field) =>
    field.type === "checkbox" || field.type === "radio" ? field.checked !== field.defaultChecked
      : field.tagName === "SELECT" ? [...field.options].some((option) => option.selected !== option.defaultSelected) && field.value !== field.options[0]?.value
        : field.defaultValue !== undefined && field.value !== field.defaultValue;
  const isInUse = (form) =>
    form.contains(document.activeElement) || form.querySelector("[aria-invalid]") || [...form.elements].some(isChanged);
  const {callbacks} = Idiomorph.defaults;
  callbacks.beforeNodeMorphed = (old) => !(old.nodeName === "FORM" && isInUse(old));
  // What a person has opened or revealed is not part of the page that the server sends.
  callbacks.beforeAttributeUpdated = (name, element) =>
    !(name === "open" && element.nodeName === "DETAILS") && !(name === "hidden" && element.hasAttribute("data-copy"));

  // Relative times, by the sandbox's clock: that of the browser may be wrong. The words are those of display.py.
  const skew = Date.parse(body.dataset.now) - Date.now();
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const describe = (seconds) => {
    const amount = Math.abs(seconds);
    if (amount < 1) return "now";
    const [size, unit] = units.find(([size]) => amount >= size);
    const words = `${Math.floor(amount / size)} ${unit}`;
    return seconds > 0 ? `${words} ago` : `in ${words}`;
  };
  const tick = () => {
    for (const time of document.querySelectorAll("time[datetime]:not([data-fixed])")) {
      const words = describe((Date.now() + skew - Date.parse(time.dateTime)) / 1000);
      if (time.textContent !== words) time.textContent = words;
    }
  };
  if (body.dataset.clock === "runs") setInterval(() => document.hidden || tick(), 5000);

  // Copying needs a secure context, which https and loopback are.
  const reveal = () => {
    if (!navigator.clipboard) return;
    for (const button of document.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
  };
  reveal();
  body.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1200);
  });

  // A double click must not send a form twice: the second one would be refused, and its page hide the first result.
  const sent = new Set();
  addEventListener("pageshow", () => sent.clear());
  body.addEventListener("submit", (event) => {
    const form = event.target;
    // Not form.method: a form may have a field of that name.
    if (form.getAttribute("method") !== "post") return;
    if (sent.has(form)) event.preventDefault();
    sent.add(form);
    setTimeout(() => sent.delete(form), 5000);
  });

  // The message of a form belongs to its submission, not to a reload.
  if (document.querySelector("[data-done]")) {
    const url = new URL(location.href);
    url.searchParams.delete("done");
    history.replaceState(history.state, "", url);
  }

  // After a refused form, reload and back must get the page rather than send the form again.
  if (document.querySelector("main > [role=alert], [aria-invalid]")) {
    const here = document.querySelector("#live[data-page]")?.dataset.page
      ?? document.querySelector("nav [aria-current]")?.getAttribute("href");
    if (here) history.replaceState(history.state, "", here);
  }

  // Takes over the parts of a page that change, so that focus, selection and scrolling stay as they are.
  let request = null;
  const load = async (path) => {
    request?.abort();
    const own = new AbortController();
    request = own;
    try {
      const response = await fetch(path, { signal: own.signal });
      // A reset removes the session or webhook that the page shows, and a restart may replace the token.
      if ([401, 404].includes(response.status)) location.reload();
      if (!response.ok) return false;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const id of ["live", "clock"]) {
        const [old, fresh] = [document, page].map((root) => root.getElementById(id));
        if (old && fresh) Idiomorph.morph(old, fresh);
      }
      // A page that shows a problem says so in its title.
      if (!document.querySelector("main > [role=alert], [aria-invalid]")) document.title = page.title;
      reveal();
      return true;
    } catch {
      return false;
    } finally {
      if (request === own) request = null;
    }
  };

  // Results appear while a person types.
  const search = document.querySelector("form.search");
  const find = async () => {
    const query = new URLSearchParams([...new FormData(search)].filter(([, value]) => value)).toString();
    const path = search.getAttribute("action") + (query && `?${query}`);
    search.classList.add("loading");
    if (await load(path)) {
      history.replaceState(history.state, "", path);
      // A screen reader says how many there are.
      search.querySelector("[data-found]").textContent = document.querySelector(".paging p, .empty h2").textContent;
    }
    search.classList.remove("loading");
  };
  let typing = 0;
  search?.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(find, 200); });
  search?.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(typing); find(); });

  // Each event says that something has changed; at most one refresh a second asks for the page again.
  const live = document.querySelector("[data-live]");
  const show = (text) => {
    live.hidden = false;
    live.classList.toggle("off", text !== "Live");
    live.querySelector("[data-live-text]").textContent = text;
  };
  let source = null;
  let timer = null;
  let last = 0;
  const refresh = () => {
    timer = null;
    // A search in flight asks for another page than the one that is shown.
    if (request) {
      schedule();
      return;
    }
    last = Date.now();
    const part = document.querySelector("#live[data-page]");
    if (part) load(part.dataset.page);
  };
  const schedule = () => {
    if (timer === null) timer = setTimeout(refresh, Math.max(100, last + 1000 - Date.now()));
  };
  const open = () => {
    source = new EventSource(body.dataset.events);
    source.onopen = () => { show("Live"); schedule(); };
    source.onerror = () => {
      show("Offline");
      // A browser repeats a lost connection by itself, but not one that a proxy or the access rules have refused.
      if (source?.readyState !== EventSource.CLOSED) return;
      source = null;
      schedule();
      setTimeout(follow, 5000);
    };
    source.onmessage = schedule;
  };
  // A browser has six connections for a host over HTTP/1.1, so tabs in the background must not hold one each.
  const follow = () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (source === null) {
      open();
    }
  };
  if (body.dataset.events && window.EventSource) {
    document.addEventListener("visibilitychange", follow);
    addEventListener("pagehide", () => { source?.close(); source = null; });
    addEventListener("pageshow", follow);
    follow();
  }
})();
