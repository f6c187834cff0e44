// What a page gains where scripts run: rows that can be filtered, a slider beside each video, and a table of contents
// that says where the reader is. Without scripts, and on paper, everything is there too.
"use strict";

// A table that is seen at one glance needs no search field.
const MOST_ROWS_AT_A_GLANCE = 8;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Tables. A heading of rows counts as text of each of them, and stays while any of them does.

const isHeading = (row) => row.classList.contains("group");

function textOf(row) {
  // Cell by cell, since two neighbours make no word.
  return [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
}

function filterRows(bodies, words) {
  let shown = 0;
  for (const { headings, rows } of bodies) {
    let inBody = 0;
    for (const { row, text } of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      if (!row.hidden) inBody += 1;
    }
    for (const heading of headings) heading.hidden = inBody === 0;
    shown += inBody;
  }
  return shown;
}

function addFilter(table) {
  const bodies = [...table.tBodies].map((body) => {
    const headings = [...body.rows].filter(isHeading);
    const above = headings.map(textOf).join(" ");
    const rows = [...body.rows].filter((row) => !isHeading(row));
    return { headings, rows: rows.map((row) => ({ row, text: `${above} ${textOf(row)}` })) };
  });
  const total = bodies.reduce((sum, body) => sum + body.rows.length, 0);
  if (total <= MOST_ROWS_AT_A_GLANCE) return;
  const name = table.caption ? table.caption.textContent : "this table";
  const field = element("input", { type: "search", "aria-label": `Filter rows of: ${name}`, placeholder: "Filter rows" });
  const status = element("output", { "aria-live": "polite" });
  const apply = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = filterRows(bodies, words);
    status.textContent = words.length ? `${shown} of ${total} rows` : "";
  };
  field.addEventListener("input", apply);
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    field.value = "";
    apply();
  });
  (table.closest(".scroll") || table).before(element("div", { class: "filter" }, field, status));
}

// Videos of slices.

function addSlider(figure) {
  const video = figure.querySelector("video");
  if (!video) return;
  const last = Number(figure.dataset.slices);
  const framesPerSecond = Number(figure.dataset.fps);
  const slider = element("input", { type: "range", min: 1, max: last, value: 1, "aria-label": "Slice" });
  const label = element("span", { "aria-hidden": "true" });
  // What the slider asks for until the video shows it.
  let wanted = null;

  // Times lie in the middle of slices; the small part is for those who step exactly to the start of one.
  const current = () => Math.min(last, Math.floor(video.currentTime * framesPerSecond + 0.01) + 1);
  const say = (slice) => {
    slider.value = slice;
    label.textContent = `Slice ${slice} of ${last}`;
    slider.setAttribute("aria-valuetext", label.textContent);
  };
  const seek = () => {
    // A browser that still looks for one slice is asked for the next when it has found it.
    if (wanted !== null && !video.seeking) video.currentTime = (wanted - 0.5) / framesPerSecond;
  };
  const settle = () => {
    if (wanted !== null && wanted !== current()) return seek();
    wanted = null;
    say(current());
  };
  const follow = () => {
    if (video.paused) return;
    say(current());
    requestAnimationFrame(follow);
  };
  slider.addEventListener("input", () => {
    video.pause();
    wanted = Number(slider.value);
    say(wanted);
    seek();
  });
  video.addEventListener("seeked", settle);
  video.addEventListener("play", follow);
  // Until then the poster is seen, which is a slice that a page may know.
  if (figure.dataset.slice) say(Number(figure.dataset.slice));
  else label.textContent = `${last} slices`;
  video.after(element("div", { class: "slice" }, slider, label));
}

// Table of contents.

function markSections(nav) {
  const links = [...nav.querySelectorAll("a")];
  const sections = links.map((link) => document.getElementById(link.hash.slice(1)));
  const mark = () => {
    // The last section that begins above a line in the upper third of the window.
    const line = window.innerHeight / 3;
    const place = sections.findLastIndex((section) => section.getBoundingClientRect().top <= line);
    const current = links[Math.max(0, place)];
    if (current.hasAttribute("aria-current")) return;
    for (const link of links) link.removeAttribute("aria-current");
    current.setAttribute("aria-current", "location");
    // In a narrow window the list is one line that scrolls.
    const list = current.closest("ol");
    list.scrollLeft = current.offsetLeft - list.offsetLeft - list.clientWidth / 3;
  };
  addEventListener("scroll", mark, { passive: true });
  addEventListener("resize", mark);
  mark();
}

document.querySelectorAll("table").forEach(addFilter);
document.querySelectorAll("figure.case[data-slices]").forEach(addSlider);
document.querySelectorAll("body > nav").forEach(markSections);
