() => {
  const width = document.documentElement.clientWidth, out = [];
  if (document.documentElement.scrollWidth > width) out.push(["page", document.documentElement.scrollWidth]);
  for (const e of document.body.querySelectorAll("*")) {
    if (e.closest("svg") && e.tagName !== "svg") continue;
    let inside = false;
    for (let p = e.parentElement; p; p = p.parentElement) inside ||= /auto|scroll|hidden/.test(getComputedStyle(p).overflowX);
    if (!inside && e.getBoundingClientRect().right > width + 1) out.push([e.tagName, e.className, e.textContent.slice(0, 40)]);
  }
  return out;
}
