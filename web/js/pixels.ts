// Pictures of every kind that a page has, as rows of RGBA pixels.

import { LampyrisError } from "./errors.js";

/** What {@link Vision.classify} takes. */
export type Picture = ImageBitmap | ImageData | HTMLVideoElement | HTMLImageElement | HTMLCanvasElement | OffscreenCanvas | VideoFrame;

/** Rows of 8-bit RGBA pixels, from the top. */
export interface Pixels {
  data: Uint8Array;
  width: number;
  height: number;
}

/** Width and height of a picture in its own pixels. */
function size(picture: Exclude<Picture, ImageData>): [number, number] {
  if ("videoWidth" in picture) return [picture.videoWidth, picture.videoHeight];
  if ("naturalWidth" in picture) return [picture.naturalWidth, picture.naturalHeight];
  if ("displayWidth" in picture) return [picture.displayWidth, picture.displayHeight];
  return [picture.width, picture.height];
}

/** Why a browser does not let a picture be read, and the way out. */
const FOREIGN =
  "the picture comes from another origin, which does not let it be read; give its element `crossorigin` and let its server allow this page (CORS)";

let canvas: OffscreenCanvas | undefined;

/** The pixels of a picture. */
export function pixels(picture: Picture): Pixels {
  if (picture instanceof ImageData) {
    const { data, width, height } = picture;
    return { data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength), width, height };
  }
  const [width, height] = size(picture);
  if (!(width > 0 && height > 0)) {
    throw new LampyrisError("bad-input", "the picture has no pixels yet; wait until it is loaded or plays");
  }
  canvas ??= new OffscreenCanvas(width, height);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new LampyrisError("internal", "the browser gives no 2-D canvas");
  // Where a picture is transparent, the one before it must not show.
  context.globalCompositeOperation = "copy";
  context.drawImage(picture, 0, 0, width, height);
  try {
    return pixels(context.getImageData(0, 0, width, height));
  } catch (thrown) {
    // A canvas that has seen such a picture is never readable again.
    canvas = undefined;
    if (!(thrown instanceof DOMException && thrown.name === "SecurityError")) throw thrown;
    throw new LampyrisError("bad-input", FOREIGN, { cause: thrown });
  }
}
