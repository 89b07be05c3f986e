document.addEventListener("DOMContentLoaded", () => {
  // Code blocks and tables that scroll sideways must be reachable with the keyboard, and only those, so that a reader does
  // not have to tab through every block of a page. They are groups: regions would need names of their own.
  const makeReachable = (block) => {
    block.tabIndex = 0;
    block.setAttribute("role", "group");
    block.setAttribute("aria-label", block.matches("pre") ? "Code" : "Table");
  };
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth || target.closest("details:not([open])")) {
        makeReachable(target);
      } else {
        target.removeAttribute("tabindex");
        target.removeAttribute("role");
        target.removeAttribute("aria-label");
      }
    }
  });
  document.querySelectorAll(".highlight pre, .table-wrapper").forEach((block) => observer.observe(block));
  // A block in a closed part of the page has no size yet; the keyboard reaches it only when that part is open.
  document.querySelectorAll("details pre").forEach((block) => makeReachable(block));

  // The theme leaves its two asides without names, which distinguish them for screen readers.
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "All pages");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "Contents of this page");
});
