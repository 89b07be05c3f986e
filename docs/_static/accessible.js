document.addEventListener("DOMContentLoaded", () => {
  // Code blocks and tables that scroll sideways must be reachable with the keyboard, and only those, so that a reader does
  // not have to tab through every block of a page. They are groups: regions would need names of their own.
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) {
        target.tabIndex = 0;
        target.setAttribute("role", "group");
        target.setAttribute("aria-label", target.matches("pre") ? "Code" : "Table");
      } else {
        target.removeAttribute("tabindex");
        target.removeAttribute("role");
        target.removeAttribute("aria-label");
      }
    }
  });
  document.querySelectorAll(".highlight pre, .table-wrapper").forEach((block) => observer.observe(block));

  // The theme leaves its two asides without names, which distinguish them for screen readers.
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "All pages");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "Contents of this page");
});
