//! The game in a window.

use crate::Result;
use crate::args::Args;
use crate::game::Game;
use crate::host::Host;
use lampyris::wgpu;
use std::sync::Arc;
use std::time::{Duration, Instant};
use winit::application::ApplicationHandler;
use winit::dpi::PhysicalSize;
use winit::event::{ElementState, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop};
use winit::keyboard::{Key, NamedKey};
use winit::window::{Window, WindowId};

/// Plays until the window is closed.
pub fn run(args: &Args) -> Result<()> {
    let events = EventLoop::new()?;
    let mut app = App { args: args.clone(), playing: None, failed: None };
    events.run_app(&mut app)?;
    app.failed.map_or(Ok(()), Err)
}

/// The window and the game in it.
struct Playing {
    window: Arc<Window>,
    surface: wgpu::Surface<'static>,
    game: Game,
    begun: Instant,
    /// When the next frame is due.
    due: Instant,
}

struct App {
    args: Args,
    playing: Option<Playing>,
    failed: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl App {
    fn open(&self, events: &ActiveEventLoop) -> Result<Playing> {
        let [width, height] = self.args.size;
        let attributes = Window::default_attributes()
            .with_title("Lampyris: a guest")
            .with_inner_size(PhysicalSize::new(width, height));
        let window = Arc::new(events.create_window(attributes)?);
        let display = Box::new(events.owned_display_handle());
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_with_display_handle(display));
        let surface = instance.create_surface(window.clone())?;
        let host = Host::open(&instance, Some(&surface), self.args.adapter.as_deref())?;
        let size = inner(&window);
        let mut game = Game::new(host, &self.args, size)?;
        game.note = "space: ask   D: destroy the device   Escape: end";
        let now = Instant::now();
        let playing = Playing { window, surface, game, begun: now, due: now };
        playing.configure(size)?;
        Ok(playing)
    }

    /// Ends the game with an error that [`run`] gives back.
    fn stop(&mut self, events: &ActiveEventLoop, result: Result<()>) {
        if let Err(error) = result {
            self.failed = Some(error);
            events.exit();
        }
    }
}

/// The size of what can be drawn, never nothing.
fn inner(window: &Window) -> [u32; 2] {
    let size = window.inner_size();
    [size.width.max(1), size.height.max(1)]
}

impl Playing {
    fn configure(&self, [width, height]: [u32; 2]) -> Result<()> {
        let host = &self.game.host;
        let missing = "the adapter cannot draw on this window";
        let mut config = self.surface.get_default_config(&host.adapter, width, height).ok_or(missing)?;
        if config.format != host.format {
            config.view_formats.push(host.format);
        }
        self.surface.configure(&host.device, &config);
        Ok(())
    }

    fn resize(&mut self) -> Result<()> {
        let size = inner(&self.window);
        self.game.resize(size);
        self.configure(size)
    }

    fn draw(&mut self) -> Result<()> {
        use wgpu::CurrentSurfaceTexture::{Lost, Occluded, Outdated, Suboptimal, Success, Timeout, Validation};
        let begun = Instant::now();
        if self.game.recover()? {
            self.configure(inner(&self.window))?;
        }
        let surface = match self.surface.get_current_texture() {
            Success(surface) | Suboptimal(surface) => surface,
            Outdated | Lost => return self.resize(),
            Timeout => return Ok(()),
            Occluded => {
                self.game.frames.rest();
                return Ok(());
            }
            Validation => return Err("the window's next picture was refused".into()),
        };
        let onto = surface
            .texture
            .create_view(&wgpu::TextureViewDescriptor { format: Some(self.game.host.format), ..Default::default() });
        self.game.frame(self.begun.elapsed().as_secs_f32(), &onto)?;
        self.window.pre_present_notify();
        self.game.host.queue.present(surface);
        self.game.frames.push_since_last(begun);
        Ok(())
    }
}

impl ApplicationHandler for App {
    fn resumed(&mut self, events: &ActiveEventLoop) {
        if self.playing.is_none() {
            match self.open(events) {
                Ok(playing) => self.playing = Some(playing),
                Err(error) => self.stop(events, Err(error)),
            }
        }
    }

    fn window_event(&mut self, events: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let Some(playing) = &mut self.playing else { return };
        let mut lost = Ok(());
        let result = match event {
            WindowEvent::CloseRequested => {
                events.exit();
                Ok(())
            }
            WindowEvent::Resized(_) => playing.resize(),
            WindowEvent::RedrawRequested => playing.draw(),
            // Some systems ask for no pictures of a window that is covered.
            WindowEvent::Occluded(_) => {
                playing.game.frames.rest();
                Ok(())
            }
            WindowEvent::KeyboardInput { event, .. } if event.state == ElementState::Pressed && !event.repeat => {
                match event.logical_key.as_ref() {
                    Key::Named(NamedKey::Escape) => events.exit(),
                    Key::Named(NamedKey::Space) => _ = playing.game.ask(),
                    Key::Character("d" | "D") => lost = playing.game.lose_device(),
                    _ => {}
                }
                lost
            }
            _ => Ok(()),
        };
        self.stop(events, result);
    }

    fn about_to_wait(&mut self, events: &ActiveEventLoop) {
        let Some(playing) = &mut self.playing else { return };
        let now = Instant::now();
        if now >= playing.due {
            let period = Duration::from_secs_f32(1.0 / self.args.hz);
            playing.due = (playing.due + period).max(now);
            playing.window.request_redraw();
        }
        events.set_control_flow(ControlFlow::WaitUntil(playing.due));
    }
}
