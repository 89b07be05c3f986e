// Makes code blocks and tables that scroll sideways reachable with the keyboard, and only those, so that a reader does not
// have to tab through every block of a page.
document.addEventListener("DOMContentLoaded", () => {
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) {
        target.tabIndex = 0;
        target.setAttribute("role", "region");
        target.setAttribute("aria-label", target.matches("pre") ? "Code" : "Table");
      } else {
        target.removeAttribute("tabindex");
        target.removeAttribute("role");
        target.removeAttribute("aria-label");
      }
    }
  });
  document.querySelectorAll(".highlight pre, .table-wrapper").forEach((block) => observer.observe(block));
});
