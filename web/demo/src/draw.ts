// The Draw tab: every stroke is classified while it is drawn, one run at a time, always with the newest strokes.

import type { Lampyris, Vision } from "lampyris";
import { bars, by, once, say, words } from "./ui.js";

/** Wires the tab up. */
export function draw(gpu: () => Promise<Lampyris>): void {
  const paper = by<HTMLCanvasElement>("paper");
  const context = paper.getContext("2d", { willReadFrequently: true });
  if (context === null) return;
  const model = once<Vision>(async () => (await gpu()).loadVision(new URL("models/sketches/", document.baseURI)));

  const blank = (): void => {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, paper.width, paper.height);
  };
  blank();
  context.lineWidth = 14;
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = "#1a1a1a";

  let [drawn, looked, busy] = [0, 0, false];
  const look = async (): Promise<void> => {
    if (busy) return;
    busy = true;
    try {
      const eyes = await model();
      while (looked !== drawn) {
        looked = drawn;
        const begun = performance.now();
        const found = await eyes.classify(paper, { top: 5 });
        bars("draw-bars", found);
        const best = found[0];
        if (best !== undefined) say("draw-says", best.probability > 0.5 ? `This is: ${best.label}` : `Perhaps: ${best.label}`);
        say("draw-time", `${(performance.now() - begun).toFixed(0)} ms`);
      }
    } catch (thrown) {
      say("draw-says", words(thrown));
    } finally {
      busy = false;
    }
  };

  let last: [number, number] | undefined;
  const at = (event: PointerEvent): [number, number] => {
    const box = paper.getBoundingClientRect();
    return [((event.clientX - box.left) * paper.width) / box.width, ((event.clientY - box.top) * paper.height) / box.height];
  };
  const stroke = (event: PointerEvent): void => {
    if (last === undefined) return;
    const to = at(event);
    context.beginPath();
    context.moveTo(...last);
    context.lineTo(...to);
    context.stroke();
    last = to;
    drawn += 1;
    void look();
  };
  paper.addEventListener("pointerdown", (event) => {
    paper.setPointerCapture(event.pointerId);
    last = at(event);
    stroke(event);
  });
  paper.addEventListener("pointermove", stroke);
  paper.addEventListener("pointerup", () => (last = undefined));
  by("clear").addEventListener("click", () => {
    blank();
    by("draw-bars").replaceChildren();
    say("draw-says", "Draw a house, a fish, a digit …");
  });
  void fetch(new URL("models/sketches/config.json", document.baseURI))
    .then((answer) => answer.json())
    .then(({ id2label }: { id2label: Record<string, string> }) => say("draw-known", Object.values(id2label).join(", ")))
    .catch((thrown: unknown) => say("draw-known", words(thrown)));
}
