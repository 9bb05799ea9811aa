// The Draw tab: every stroke is classified while it is drawn, one run at a time, always with the newest strokes.

import type { Vision } from "lampyris";
import { bars, by, say, words } from "./ui.js";

/** A place on the paper, from 0 to 1 from the left and the top. */
type Place = [number, number];
/** What is on the paper: a line, or one of the finished drawings. */
type Mark = Place[] | HTMLImageElement;

/** Width of the pen, of the paper's. */
const PEN = 14 / 256;
/** Pixels of what the classifier sees; it needs no more. */
const SEEN = 256;
/** How far an arrow key moves the pen. */
const STEP = 0.04;
/** What keys do: where they move the pen to; Space puts it down or lifts it. */
const KEYS: Record<string, Place | undefined> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] };

/** Wires the tab up. */
export function draw(model: () => Promise<Vision>): void {
  const paper = by<HTMLCanvasElement>("paper");
  const seen = new OffscreenCanvas(SEEN, SEEN);
  const shownOn = paper.getContext("2d");
  const seenOn = seen.getContext("2d", { willReadFrequently: true });
  if (shownOn === null || seenOn === null) return say("draw-says", "This browser gives no canvas to draw on.", true);
  const sheets = [shownOn, seenOn];
  let marks: Mark[] = [];

  const segment = (from: Place, to: Place): void => {
    for (const sheet of sheets) {
      const edge = sheet.canvas.width;
      sheet.lineWidth = PEN * edge;
      sheet.lineCap = sheet.lineJoin = "round";
      sheet.strokeStyle = "#1a1a1a";
      sheet.beginPath();
      sheet.moveTo(from[0] * edge, from[1] * edge);
      // A line of no length would leave no dot.
      sheet.lineTo(to[0] * edge + 0.01, to[1] * edge);
      sheet.stroke();
    }
  };
  const redraw = (): void => {
    for (const sheet of sheets) {
      sheet.fillStyle = "#fff";
      sheet.fillRect(0, 0, sheet.canvas.width, sheet.canvas.width);
    }
    for (const mark of marks) {
      if (mark instanceof HTMLImageElement) {
        for (const sheet of sheets) sheet.drawImage(mark, 0, 0, sheet.canvas.width, sheet.canvas.width);
      } else mark.forEach((to, at) => segment(mark[Math.max(0, at - 1)] ?? to, to));
    }
  };

  let [drawn, looked, busy] = [0, 0, false];
  const look = async (): Promise<void> => {
    if (busy) return;
    busy = true;
    try {
      say("draw-time", "Loading the model …");
      const eyes = await model();
      while (looked !== drawn) {
        looked = drawn;
        const begun = performance.now();
        const found = await eyes.classify(seen, { top: 5 });
        const took = performance.now() - begun;
        const best = found[0];
        if (marks.length === 0 || best === undefined) break;
        bars("draw-bars", found);
        say("draw-says", best.probability > 0.5 ? `This is: ${best.label}` : `Perhaps: ${best.label}`);
        say("draw-time", `${took.toFixed(took < 10 ? 1 : 0)} ms a look`);
      }
    } catch (thrown) {
      looked = drawn;
      say("draw-time", "");
      say("draw-says", words(thrown), true);
    } finally {
      busy = false;
      if (marks.length === 0) empty();
    }
  };
  const empty = (): void => {
    bars("draw-bars", []);
    say("draw-says", "Nothing drawn yet");
    say("draw-time", "");
  };
  const changed = (): void => {
    const blank = marks.length === 0;
    by("hint").hidden = !blank;
    by("draw-empty").hidden = !blank;
    by<HTMLButtonElement>("undo").disabled = by<HTMLButtonElement>("clear").disabled = blank;
    drawn += 1;
    if (blank) empty();
    else void look();
  };

  let line: Place[] | undefined;
  const begin = (place: Place): void => {
    line = [place];
    marks.push(line);
    segment(place, place);
    changed();
  };
  const goOn = (place: Place): void => {
    const from = line?.at(-1);
    if (line === undefined || from === undefined) return;
    line.push(place);
    segment(from, place);
    changed();
  };

  const at = (event: PointerEvent): Place => {
    const box = paper.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  paper.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    paper.setPointerCapture(event.pointerId);
    pen.hidden = true;
    begin(at(event));
  });
  paper.addEventListener("pointermove", (event) => {
    if (!paper.hasPointerCapture(event.pointerId)) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) goOn(at(part));
  });
  for (const end of ["pointerup", "pointercancel"]) paper.addEventListener(end, () => (line = undefined));

  const pen = by("pen");
  let [place, down]: [Place, boolean] = [[0.5, 0.5], false];
  const showPen = (): void => {
    pen.hidden = false;
    pen.classList.toggle("down", down);
    [pen.style.left, pen.style.top] = [`${100 * place[0]}%`, `${100 * place[1]}%`];
  };
  const lift = (): void => {
    down = false;
    line = undefined;
  };
  paper.addEventListener("keydown", (event) => {
    const towards = KEYS[event.key];
    if (towards === undefined) return;
    const [x, y] = towards;
    event.preventDefault();
    const kept = (value: number): number => Math.min(0.98, Math.max(0.02, value));
    place = [kept(place[0] + x * STEP), kept(place[1] + y * STEP)];
    if (event.key !== " ") {
      if (down) goOn(place);
    } else if (down) lift();
    else {
      down = true;
      begin(place);
    }
    showPen();
  });
  paper.addEventListener("focus", () => paper.matches(":focus-visible") && showPen());
  paper.addEventListener("blur", () => {
    lift();
    pen.hidden = true;
  });

  by("undo").addEventListener("click", () => {
    marks.pop();
    redraw();
    changed();
    // The button has just been disabled, and would take the focus with it.
    if (marks.length === 0) paper.focus({ preventScroll: true });
  });
  by("clear").addEventListener("click", () => {
    marks = [];
    redraw();
    changed();
    paper.focus({ preventScroll: true });
  });
  for (const button of document.querySelectorAll<HTMLButtonElement>("[data-sample]")) {
    button.addEventListener("click", () => {
      const image = button.querySelector("img");
      if (image === null || !image.complete || image.naturalWidth === 0) return;
      marks = [image];
      redraw();
      changed();
    });
  }
  redraw();
  void fetch(new URL("models/sketches/config.json", document.baseURI))
    .then((answer) => answer.json())
    .then(({ id2label }: { id2label: Record<string, string> }) => say("draw-known", Object.values(id2label).join(", ")))
    .catch(() => say("draw-known", "The list of names could not be loaded."));
}
