// Return one sentence for each part of the page that a reader cannot see at the present width of the window.
() => {
  const problems = [];
  const page = document.documentElement;
  const article = document.querySelector("[role=main]") ?? document.body;
  const tolerance = 1.5; // rounding of fractions of pixels

  const name = (element) => {
    const section = element.closest("section[id], dt[id]")?.id;
    const words = element.textContent.trim().replace(/\s+/g, " ").slice(0, 60);
    return `<${element.tagName.toLowerCase()}> ${JSON.stringify(words)}${section ? ` in #${section}` : ""}`;
  };

  // The nearest ancestor that scrolls or clips; null if only the window does.
  const boxes = new Map();
  const box = (element) => {
    if (element === null || element === page || element === document.body) return null;
    if (!boxes.has(element)) {
      const style = getComputedStyle(element);
      boxes.set(element, style.overflowX === "visible" ? box(element.parentElement) : { element, style });
    }
    return boxes.get(element);
  };
  const scrolls = (style) => style.overflowX === "auto" || style.overflowX === "scroll";

  const reported = new Set();
  const report = (element, problem) => {
    const sentence = `${name(element)} ${problem}`;
    if (!reported.has(sentence)) problems.push(sentence);
    reported.add(sentence);
  };
  const check = (element, rect) => {
    if (rect.width <= 1 || rect.height <= 1) return; // hidden, or only for screen readers
    const around = box(element);
    if (around === null) {
      if (rect.right > page.clientWidth + tolerance || rect.left < -tolerance) report(element, "leaves the window");
      return;
    }
    const visible = around.element.getBoundingClientRect();
    if (visible.width <= 1 || visible.height <= 1) return;
    if (!scrolls(around.style) && (rect.right > visible.right + tolerance || rect.left < visible.left - tolerance)) {
      report(element, "is clipped and cannot be scrolled");
    }
  };

  if (page.scrollWidth > page.clientWidth) {
    problems.push(`The document is ${page.scrollWidth} px wide in a window of ${page.clientWidth} px.`);
  }

  const texts = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let text = texts.nextNode(); text !== null; text = texts.nextNode()) {
    const parent = text.parentElement;
    if (!text.data.trim() || parent.closest("svg, script, style, .headerlink")) continue;
    range.selectNodeContents(text);
    const rect = range.getBoundingClientRect();
    check(parent, rect);
    const cell = parent.closest("td, th, .sd-card, .admonition");
    if (cell !== null && box(parent) === box(cell) && rect.right > cell.getBoundingClientRect().right + tolerance) {
      report(parent, `leaves its <${cell.tagName.toLowerCase()}>`);
    }
  }
  for (const element of article.querySelectorAll("img, svg, video, pre, table, input, button, .mermaid")) {
    if (!element.closest(".headerlink")) check(element, element.getBoundingClientRect());
  }
  for (const image of document.images) {
    if (image.complete && image.naturalWidth === 0) problems.push(`The picture ${image.src} cannot be shown.`);
  }

  // A phone scrolls wide code and tables; a window for a desk must show them whole.
  if (page.clientWidth >= 1200) {
    for (const element of article.querySelectorAll("pre, .table-wrapper")) {
      const missing = element.scrollWidth - element.clientWidth;
      if (missing > tolerance) report(element, `must be scrolled by ${missing} px`);
    }
  }

  for (const link of document.querySelectorAll("a[href^='#']")) {
    const anchor = decodeURIComponent(link.getAttribute("href").slice(1));
    if (anchor && anchor !== "top" && document.getElementById(anchor) === null) {
      problems.push(`The link ${JSON.stringify(link.textContent.trim())} leads to the missing anchor #${anchor}.`);
    }
  }
  return problems;
}
