// The page behind session.url: previews of pictures, and the messages to the page around a frame. The page works
// without this script, apart from these two.
"use strict";
(() => {
  const root = document.documentElement;
  root.dataset.script = "";
  const framed = window.parent !== window;
  // Messages that @veriff/incontext-sdk 2.5.0 listens for. They contain no data, so any page around may read them.
  const post = (message) => framed && window.parent.postMessage(message, "*");
  const leave = (address) => location.replace(address);

  let sdk = null;
  addEventListener("message", (event) => {
    if (event.source === window.parent && event.data && event.data.name === "VERIFF_RENDER") sdk = event.data.payload || {};
  });
  post("VERIFF_HANDSHAKE");

  const body = document.querySelector("[data-message]");
  if (body && body.dataset.message) post(body.dataset.message);
  // A reload must not repeat the message.
  if (location.search.includes("event=")) history.replaceState(null, "", location.pathname);
  // After a refused form, reload and back must get the page rather than send the form again.
  if (document.querySelector("main [role=alert]")) history.replaceState(null, "", location.pathname.replace(/\/[a-z]+$/, ""));

  // A second click would be refused, and its response hide the message or the end that follows the first one.
  const sent = new Set();
  addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    if (sent.has(event.target)) event.preventDefault();
    sent.add(event.target);
    setTimeout(() => sent.delete(event.target), 5000);
  });

  const close = document.querySelector("[data-close]");
  close.hidden = !framed;
  close.addEventListener("click", () => post("VERIFF_CANCELED"));
  for (const part of document.querySelectorAll("[data-framed]")) part.hidden = !framed;
  for (const button of document.querySelectorAll("[data-reload]")) {
    // A guess from the names: Veriff asks a page that handles it, and reloads other pages by itself.
    button.addEventListener("click", () =>
      post(sdk && sdk.isReloadHandled ? "VERIFF_RELOAD_REQUEST" : "VERIFF_FORCE_RELOAD"));
  }

  const end = document.querySelector("[data-end]");
  if (end && end.dataset.callback) {
    // A frame without the SDK does not react to VERIFF_FINISHED, so it follows the callback.
    if (framed) setTimeout(() => sdk || leave(end.dataset.callback), 1000);
    else leave(end.dataset.callback);
  }
  for (const link of document.querySelectorAll("[data-leave]")) {
    link.addEventListener("click", (event) => {
      if (!sdk) return;
      event.preventDefault();
      post("VERIFF_FINISHED");
    });
  }

  const form = document.querySelector("[data-pictures]");
  if (!form) return;
  const pictures = [...form.querySelectorAll("[data-picture]")];
  const inputs = (picture) => [...picture.querySelectorAll("input")];
  const chosen = (picture) => inputs(picture).map((input) => input.files[0]).find(Boolean);
  const describe = ({ name, size }) =>
    `${name}, ${size < 1e6 ? `${Math.ceil(size / 1e3)} kB` : `${(size / 1e6).toFixed(1)} MB`}`;
  const say = (picture, text, bad) => {
    const state = picture.querySelector("[data-state]");
    state.textContent = text;
    state.classList.toggle("bad", Boolean(bad));
  };
  const show = (picture) => {
    const image = picture.querySelector("img");
    const file = chosen(picture);
    if (image.src) URL.revokeObjectURL(image.src);
    image.hidden = !file;
    if (!file) { image.removeAttribute("src"); return say(picture, ""); }
    image.src = URL.createObjectURL(file);
    say(picture, describe(file));
  };
  for (const picture of pictures) {
    // Browsers cannot show every type that Veriff accepts, for example HEIC.
    picture.querySelector("img").addEventListener("error", (event) => {
      event.target.hidden = true;
      const file = chosen(picture);
      if (file) say(picture, `${describe(file)}, without a preview`);
    });
    for (const input of inputs(picture)) {
      input.addEventListener("change", () => {
        if (input.files.length) for (const other of inputs(picture)) if (other !== input) other.value = "";
        show(picture);
      });
    }
  }
  form.querySelector("[data-specimens]").addEventListener("click", async (event) => {
    event.preventDefault();
    await Promise.all(pictures.filter((picture) => !chosen(picture)).map(async (picture) => {
      const address = picture.dataset.specimen;
      const data = new DataTransfer();
      const blob = await (await fetch(address)).blob();
      data.items.add(new File([blob], address.slice(address.lastIndexOf("/") + 1), { type: blob.type }));
      inputs(picture).at(-1).files = data.files;
      show(picture);
    }));
    form.querySelector("[data-submit]").focus();
  });
  form.addEventListener("submit", (event) => {
    const missing = pictures.filter((picture) => "required" in picture.dataset && !chosen(picture));
    for (const picture of missing) say(picture, "This picture is missing.", true);
    if (missing.length) {
      event.preventDefault();
      inputs(missing[0]).at(-1).focus();
      return;
    }
    const button = form.querySelector("[data-submit]");
    button.disabled = true;
    button.textContent = "Sending…";
  });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
})();
