"use strict";

// The page works without this script. With it, pictures are sent one by one with progress, and the status is live.
const MAX_PICTURE = 18_000_000;
const form = document.getElementById("pictures");
const error = document.getElementById("error");
let isSending = false;

function showError(text) {
  error.textContent = text;
  error.hidden = false;
}

class Refusal extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? "This did not work: try again later.");
    this.status = status;
    this.code = problem?.code;
    this.isShown = false;
  }
}

// XMLHttpRequest, because fetch cannot report the progress of an upload.
function send(method, path, body, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    request.setRequestHeader("Accept", "application/json");
    request.responseType = "json";
    if (onProgress) request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
    request.onerror = () => reject(new Refusal(0, { detail: "The connection broke. Check your network, and send again." }));
    request.onload = () => {
      if (request.status < 300) resolve();
      else reject(new Refusal(request.status, request.response)); // problem details, see RFC 9457
    };
    request.send(body);
  });
}

class Picture {
  constructor(element) {
    this.element = element;
    this.input = element.querySelector("input[type=file]");
    this.bar = element.querySelector("progress");
    this.state = element.querySelector(".state");
    this.preview = element.querySelector("img");
    this.anyway = element.querySelector(".anyway");
    this.button = element.querySelector(".choose");
    this.input.addEventListener("change", () => this.choose());
  }

  get file() {
    return this.input.files[0];
  }

  choose() {
    if (!this.file) return;
    delete this.element.dataset.sent;
    URL.revokeObjectURL(this.preview.src);
    this.preview.src = URL.createObjectURL(this.file);
    this.preview.hidden = false;
    this.button.textContent = "Take another picture";
    this.show("");
    this.anyway.hidden = true;
    this.anyway.firstElementChild.checked = false;
    const isTooLarge = this.file.size > MAX_PICTURE;
    this.input.setCustomValidity(isTooLarge ? "Use a picture with less than 18 MB." : "");
    if (isTooLarge) this.fail("The picture is too large: use one with less than 18 MB.");
  }

  show(text) {
    delete this.element.dataset.failed;
    this.state.textContent = text;
  }

  fail(text) {
    this.show(text);
    this.element.dataset.failed = "";
  }

  async upload() {
    if (!this.file || "sent" in this.element.dataset) return;
    this.bar.hidden = false;
    this.show("Sending");
    try {
      const path = `/pictures/${this.input.id}?anyway=${this.anyway.firstElementChild.checked}`;
      await send("PUT", path, this.file, (share) => {
        this.bar.value = share;
        if (share === 1) this.show("Checking");
      });
    } catch (refusal) {
      this.fail(refusal.message);
      refusal.isShown = true;
      this.anyway.hidden = refusal.code !== "picture-quality";
      this.input.focus();
      throw refusal;
    } finally {
      this.bar.hidden = true;
    }
    this.element.dataset.sent = "";
    this.input.required = false;
    this.show("Sent");
  }
}

if (form) {
  document.documentElement.classList.add("script");
  const pictures = [...form.querySelectorAll(".picture")].map((element) => new Picture(element));
  const names = form.querySelector(".names");
  const button = form.querySelector("button");

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.hidden = true;
    isSending = button.disabled = true;
    try {
      const person = names ? [...names.querySelectorAll("input")].map((input) => [input.name, input.value]) : [];
      await send("POST", "/verification", new URLSearchParams(person));
      if (names) names.disabled = true; // the session has them now
      for (const picture of pictures) await picture.upload();
      await send("POST", "/submission");
      isSending = false;
      location.replace("/");
    } catch (refusal) {
      isSending = button.disabled = false;
      // The status has changed elsewhere, in another tab for example.
      if ([404, 409, 410].includes(refusal.status)) location.replace("/");
      if (!refusal.isShown) showError(refusal.message);
    }
  });
  addEventListener("beforeunload", (event) => isSending && event.preventDefault());
}

const shown = document.querySelector("[data-pending]")?.dataset.status;

function follow() {
  const events = new EventSource("/events");
  events.onmessage = ({ data }) => {
    if (data === "lost") {
      events.close();
      document.getElementById("restart").hidden = false;
      showError("This verification does not exist any more.");
    } else if (data !== shown) {
      location.replace("/");
    }
  };
  // The browser reconnects by itself unless it got an error, for example from a proxy while the server restarts.
  events.onerror = () => events.readyState === EventSource.CLOSED && setTimeout(follow, 5000);
}

if (shown) follow();
addEventListener("pageshow", (event) => event.persisted && location.reload());
