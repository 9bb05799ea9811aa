// The Photo tab: a picture or the camera through any MobileNet that the user has.

import type { Lampyris, Vision } from "lampyris";
import { bars, by, say, words } from "./ui.js";

/** Wires the tab up. */
export function photo(gpu: () => Promise<Lampyris>): void {
  let model: Vision | undefined;
  const shown = by<HTMLCanvasElement>("shown");
  const video = by<HTMLVideoElement>("video");
  const camera = by<HTMLButtonElement>("camera");
  const file = by<HTMLInputElement>("photo-file");

  const attempt = (work: () => Promise<void>): void => void work().catch((thrown: unknown) => say("photo-says", words(thrown)));

  by<HTMLInputElement>("vision-files").addEventListener("change", (event) =>
    attempt(async () => {
      const files = [...((event.target as HTMLInputElement).files ?? [])];
      say("photo-says", "Loading …");
      const before = performance.now();
      const fresh = await (await gpu()).loadVision(files);
      const labels = files.find(({ name }) => name.endsWith(".txt"));
      if (labels !== undefined) await fresh.setLabels((await labels.text()).trimEnd().split("\n"));
      model?.dispose();
      model = fresh;
      file.disabled = camera.disabled = false;
      say("photo-says", `Loaded in ${((performance.now() - before) / 1000).toFixed(1)} s. Drop a photo here.`);
    }),
  );

  const show = (picture: ImageBitmap | HTMLVideoElement, width: number, height: number): void => {
    shown.height = Math.round((shown.width * height) / width);
    shown.getContext("2d")?.drawImage(picture, 0, 0, shown.width, shown.height);
  };

  const classify = async (blob: Blob): Promise<void> => {
    if (model === undefined) return say("photo-says", "Choose a model first.");
    const picture = await createImageBitmap(blob);
    show(picture, picture.width, picture.height);
    const begun = performance.now();
    const found = await model.classify(picture);
    bars("photo-bars", found);
    say("photo-says", `This is: ${found[0]?.label ?? "nothing"}`);
    say("photo-time", `${(performance.now() - begun).toFixed(0)} ms`);
  };
  file.addEventListener("change", () => attempt(async () => (file.files?.[0] ? classify(file.files[0]) : undefined)));
  const drop = by("drop");
  drop.addEventListener("dragover", (event) => event.preventDefault());
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    const dropped = event.dataTransfer?.files[0];
    if (dropped !== undefined) attempt(() => classify(dropped));
  });

  let stream: MediaStream | undefined;
  const stop = (): void => {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = undefined;
    camera.textContent = "Start the camera";
  };
  const frames = async (): Promise<void> => {
    let [count, begun] = [0, performance.now()];
    while (stream !== undefined && model !== undefined) {
      const before = performance.now();
      const found = await model.classify(video);
      const took = performance.now() - before;
      show(video, video.videoWidth, video.videoHeight);
      bars("photo-bars", found);
      count += 1;
      say("photo-time", `${took.toFixed(0)} ms, ${((1000 * count) / (performance.now() - begun)).toFixed(1)} frames a second`);
      if (count === 30) [count, begun] = [0, performance.now()];
      await new Promise(requestAnimationFrame);
    }
  };
  camera.addEventListener("click", () =>
    attempt(async () => {
      if (stream !== undefined) return stop();
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      camera.textContent = "Stop the camera";
      video.srcObject = stream;
      await video.play();
      try {
        await frames();
      } finally {
        stop();
      }
    }),
  );
}
