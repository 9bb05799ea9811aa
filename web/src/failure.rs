//! Errors as JavaScript gets them: an `Error` with the sentence as its message and a code that programs can act on.

use js_sys::Reflect;
use lampyris::engine;
use wasm_bindgen::JsValue;

/// What a function for JavaScript gives.
pub(crate) type Outcome<T> = Result<T, JsValue>;

/// An `Error` with a `code`.
pub(crate) fn error(code: &str, message: &str) -> JsValue {
    let error = js_sys::Error::new(message);
    // A fresh object takes any property.
    let _ = Reflect::set(&error, &"code".into(), &code.into());
    error.into()
}

/// A model's error.
pub(crate) fn model(failure: &lampyris::Error) -> JsValue {
    error(code(failure), &failure.to_string())
}

/// The engine's error.
pub(crate) fn engine(failure: &engine::Error) -> JsValue {
    error(engine_code(failure), &failure.to_string())
}

fn code(failure: &lampyris::Error) -> &'static str {
    use lampyris::Error;
    match failure {
        Error::Engine(failure) => engine_code(failure),
        Error::PixelBytes { .. }
        | Error::Crop { .. }
        | Error::Context { .. }
        | Error::Room { .. }
        | Error::Sampling { .. }
        | Error::Prompt { .. }
        | Error::Token { .. }
        | Error::NoChoice { .. }
        | Error::NoTemplate
        | Error::ImageSize { .. }
        | Error::Length { .. } => "bad-input",
        Error::NotFinite { .. } | Error::Answers { .. } => "bad-result",
        _ => "bad-file",
    }
}

fn engine_code(failure: &engine::Error) -> &'static str {
    use engine::Error;
    match failure {
        Error::NoAdapter { .. } | Error::NoDevice { .. } => "no-webgpu",
        Error::OutOfMemory { .. } | Error::Budget { .. } | Error::TooLarge { .. } => "out-of-memory",
        Error::DeviceLost { .. } => "device-lost",
        Error::Constant { .. } => "bad-file",
        Error::Input { .. } | Error::Texture { .. } | Error::Shape { .. } => "bad-input",
        Error::NoVariant { .. } | Error::Grid { .. } => "unsupported-device",
        _ => "internal",
    }
}
