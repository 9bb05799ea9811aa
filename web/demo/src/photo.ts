// The Photo tab: a picture or the camera, through the bundled classifier or any MobileNet that the user has.

import type { Lampyris, Vision } from "lampyris";
import { chosen, isModel, onDrop, picked } from "./pick.js";
import { bars, by, say, words } from "./ui.js";

/** Most pixels of a photo in a direction: no network here looks at more, and a camera's photo would be large in memory. */
const LONGEST = 1024;

/** A picture in a file, no larger than is of use. */
async function pictureIn(file: File): Promise<ImageBitmap> {
  const whole = await createImageBitmap(file);
  const fit = LONGEST / Math.max(whole.width, whole.height);
  if (fit >= 1) return whole;
  try {
    const [resizeWidth, resizeHeight] = [Math.max(1, Math.round(whole.width * fit)), Math.max(1, Math.round(whole.height * fit))];
    return await createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: "high" });
  } finally {
    whole.close();
  }
}

const BUNDLED = "Bundled: 32 drawings and digits. It knows no photos; choose a MobileNet for them.";

/** What to say when there is no camera to be had. */
function cameraWords(thrown: unknown): string {
  const name = thrown instanceof DOMException ? thrown.name : "";
  if (name === "NotAllowedError") return "The camera was not allowed; allow it for this page in the browser and start it again.";
  if (name === "NotFoundError") return "There is no camera here; choose a photo instead.";
  if (name === "NotReadableError") return "Another program has the camera; close that one and start it again.";
  return words(thrown);
}

/** Wires the tab up. */
export function photo(gpu: () => Promise<Lampyris>, sketches: () => Promise<Vision>): { stop(): void } {
  const shown = by<HTMLCanvasElement>("shown");
  const video = by<HTMLVideoElement>("video");
  const camera = by<HTMLButtonElement>("camera");
  const bar = by<HTMLProgressElement>("vision-bar");
  const back = by<HTMLButtonElement>("vision-bundled");
  /** The model that was chosen; the bundled one where none was. */
  let own: Vision | undefined;
  /** The loading of the last choice, which counts. */
  let loading: AbortController | undefined;
  /** The photo that is shown, for a look with another model. */
  let last: ImageBitmap | undefined;
  /** Which choice of a photo or of the camera counts: the last one, while an earlier photo may still be read. */
  let choices = 0;
  /** Which look at it counts: the last one, with the model of then, unless something was said since. */
  let looks = 0;

  // One thing after another, so that no model is disposed of while it looks.
  let queue: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const mine = queue.then(work, work);
    queue = mine;
    return mine;
  };
  const attempt = (work: () => Promise<void>, inWords = words): void => {
    work().catch((thrown: unknown) => tell(inWords(thrown), true));
  };
  /** Says what came of a picture; while the camera is waited for, that is said instead, and this when it does not come. */
  const tell = (text: string, failed = false): void => {
    if (before === undefined) say("photo-says", text, failed);
    else before = { text, failed };
  };

  const show = (picture: ImageBitmap | HTMLVideoElement, width: number, height: number): void => {
    by("stage-empty").hidden = true;
    shown.hidden = false;
    const fit = Math.min(1, 960 / Math.max(width, height));
    const [wide, high] = [Math.max(1, Math.round(width * fit)), Math.max(1, Math.round(height * fit))];
    if (shown.width !== wide || shown.height !== high) [shown.width, shown.height] = [wide, high];
    shown.getContext("2d")?.drawImage(picture, 0, 0, wide, high);
  };
  /**
   * Looks once, says what it is and gives the milliseconds; does none of it once the picture is not `wanted` any more. What goes wrong
   * with such a one is nobody's business either.
   */
  const look = (picture: ImageBitmap | HTMLCanvasElement | HTMLVideoElement, wanted: () => boolean): Promise<number | undefined> =>
    inTurn(async () => {
      try {
        const eyes = own ?? (await sketches());
        // It may have been closed.
        if (!wanted()) return undefined;
        const begun = performance.now();
        const found = await eyes.classify(picture);
        const took = performance.now() - begun;
        if (!wanted()) return undefined;
        bars("photo-bars", found);
        const best = found[0];
        tell(best === undefined ? "Nothing" : best.probability > 0.5 ? `This is: ${best.label}` : `Perhaps: ${best.label}`);
        return took;
      } catch (thrown) {
        if (wanted()) throw thrown;
        return undefined;
      }
    });

  /** Puts another photo in the place of the one that is shown, or none where the camera is. */
  const replace = (picture?: ImageBitmap): void => {
    last?.close();
    last = picture;
    bars("photo-bars", []);
    say("photo-time", "");
  };
  /** Looks at what is shown, which may be the camera's last frame; a camera that is on looks by itself. */
  const lookAtPhoto = async (): Promise<void> => {
    if (shown.hidden || stream !== undefined) return;
    const [photo, mine] = [last, (looks += 1)];
    tell("Looking …");
    say("photo-time", "");
    const took = await look(photo ?? shown, () => mine === looks && last === photo && stream === undefined);
    if (took !== undefined) say("photo-time", `${took.toFixed(took < 10 ? 1 : 0)} ms`);
  };
  const takePhoto = async (file: File): Promise<void> => {
    stop();
    const mine = (choices += 1);
    let picture: ImageBitmap;
    try {
      picture = await pictureIn(file);
    } catch {
      if (mine !== choices) return;
      looks += 1;
      throw new Error(`${file.name} is no picture that this browser can read; choose a JPEG, PNG or WebP file.`);
    }
    // The last choice counts, however long each takes to be read.
    if (mine !== choices) return picture.close();
    replace(picture);
    show(picture, picture.width, picture.height);
    await lookAtPhoto();
  };

  const takeModel = async (files: File[]): Promise<void> => {
    if (files.length === 0) return;
    loading?.abort();
    const mine = (loading = new AbortController());
    const before = performance.now();
    let fresh: Vision | undefined;
    try {
      const { name, files: parts } = picked(files, [".safetensors"]);
      say("vision-name", `Loading ${name} …`);
      [bar.hidden, bar.value] = [false, 0];
      const onProgress = (share: number): void => void (loading === mine && (bar.value = share));
      fresh = await (await gpu()).loadVision(parts, { onProgress, signal: mine.signal });
      const names = parts.find((file) => file.name.endsWith(".txt"));
      if (names !== undefined) await fresh.setLabels((await names.text()).trimEnd().split(/\r?\n/));
      // Another choice has taken the place of this one.
      if (loading !== mine) return fresh.dispose();
      await swap(fresh);
      if (loading !== mine) return;
      say("vision-name", `${name}, loaded in ${((performance.now() - before) / 1000).toFixed(1)} s.`);
    } catch (thrown) {
      fresh?.dispose();
      if (loading === mine) say("vision-name", words(thrown), true);
      return;
    } finally {
      if (loading === mine) {
        loading = undefined;
        bar.hidden = true;
      }
    }
    await lookAtPhoto();
  };
  const swap = (fresh: Vision | undefined): Promise<void> =>
    inTurn(async () => {
      own?.dispose();
      own = fresh;
      const focused = document.activeElement === back;
      back.hidden = fresh === undefined;
      // It would go with the button.
      if (back.hidden && focused) by("vision-files").focus();
    });

  let stream: MediaStream | undefined;
  /** Which start of the camera counts; a person may take long to allow it, and want something else by then. */
  let starts = 0;
  /** What was said before the camera was waited for. */
  let before: { text: string; failed: boolean } | undefined;
  const stop = (): void => {
    starts += 1;
    if (before !== undefined) say("photo-says", before.text, before.failed);
    before = undefined;
    by("photo-says").removeAttribute("aria-live");
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = undefined;
    video.srcObject = null;
    video.hidden = true;
    camera.classList.remove("on");
    camera.textContent = "Start the camera";
  };
  const frames = async (mine: MediaStream): Promise<void> => {
    const ends: number[] = [];
    while (stream === mine) {
      const took = await look(video, () => stream === mine);
      if (took === undefined) return;
      show(video, video.videoWidth, video.videoHeight);
      // Over the last second, or the last two frames where they take longer.
      ends.push(performance.now());
      while (ends.length > 2 && (ends.at(-1) ?? 0) - (ends[0] ?? 0) > 1000) ends.shift();
      const rate = ends.length > 1 ? (1000 * (ends.length - 1)) / ((ends.at(-1) ?? 0) - (ends[0] ?? 0)) : undefined;
      say("photo-time", `${took.toFixed(took < 10 ? 1 : 0)} ms a frame${rate === undefined ? "" : `, ${rate.toFixed(1)} frames a second`}`);
      await new Promise(requestAnimationFrame);
    }
  };
  const start = async (): Promise<void> => {
    if (navigator.mediaDevices === undefined) {
      throw new Error("Browsers give the camera to pages over HTTPS or from localhost only; open this page so, or choose a photo.");
    }
    choices += 1;
    starts += 1;
    const turn = starts;
    const place = by("photo-says");
    before ??= { text: place.textContent ?? "", failed: place.classList.contains("failed") };
    say("photo-says", "Waiting for the camera …");
    let mine: MediaStream;
    try {
      mine = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (thrown) {
      if (turn !== starts) return;
      before = undefined;
      throw thrown;
    }
    if (turn !== starts) {
      for (const track of mine.getTracks()) track.stop();
      return;
    }
    stream = mine;
    for (const track of mine.getTracks()) {
      // Not when the page itself stops it.
      track.addEventListener("ended", () => {
        if (stream !== mine) return;
        stop();
        tell("The camera has gone, or is not allowed any more; see to it and start it again.", true);
      });
    }
    camera.classList.add("on");
    camera.textContent = "Stop the camera";
    video.hidden = false;
    video.srcObject = mine;
    try {
      await video.play();
      before = undefined;
      // For eyes; said aloud, the name of every frame would be too much.
      place.setAttribute("aria-live", "off");
      replace();
      show(video, video.videoWidth, video.videoHeight);
      await frames(mine);
    } catch (thrown) {
      // It was stopped before its first frame.
      if (stream !== mine) return;
      throw thrown;
    } finally {
      if (stream === mine) stop();
    }
  };
  camera.addEventListener("click", () => (stream === undefined ? attempt(start, cameraWords) : stop()));

  by<HTMLInputElement>("photo-file").addEventListener("change", ({ target }) => {
    const [file] = chosen(target as HTMLInputElement);
    if (file !== undefined) attempt(() => takePhoto(file));
  });
  for (const id of ["vision-files", "vision-folder"]) {
    by<HTMLInputElement>(id).addEventListener("change", ({ target }) => attempt(() => takeModel(chosen(target as HTMLInputElement))));
  }
  back.addEventListener("click", () =>
    attempt(async () => {
      loading?.abort();
      loading = undefined;
      bar.hidden = true;
      await swap(undefined);
      if (loading !== undefined) return;
      say("vision-name", BUNDLED);
      await lookAtPhoto();
    }),
  );
  const failed = (thrown: unknown): void => say("photo-says", words(thrown), true);
  onDrop(by("photo"), (files) => {
    const [first] = files;
    if (first !== undefined) attempt(() => (isModel(files) ? takeModel(files) : takePhoto(first)));
  }, failed);
  return { stop };
}
