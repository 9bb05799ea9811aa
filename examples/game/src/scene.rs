//! What there is to see: an island with a lighthouse, boards with drawings, a robot that goes from one to the next, and two cameras.

use crate::drawings::{self, Drawing};
use crate::mesh::Mesh;
use glam::{Mat4, Quat, Vec2, Vec3, vec2, vec3};
use std::f32::consts::TAU;

/// Metres from the lighthouse to the boards, and to the robot's round.
const BOARDS: f32 = 4.6;
const ROUND: f32 = 7.7;
/// How high the middle of a board is, and the robot's eye.
const HEIGHT: f32 = 1.5;
/// Seconds before a board, and on the way to the next.
const STAY: f32 = 0.9;
const WAY: f32 = 0.7;

/// The shapes of the scene, and what hangs on its boards.
#[derive(Debug)]
pub struct Scene {
    /// What throws no shadow.
    pub ground: Mesh,
    /// What stands on it.
    pub things: Mesh,
    /// About its own origin, looking along z.
    pub robot: Mesh,
    pub drawings: Vec<Drawing>,
}

/// Where everything that moves is at one time.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub robot: Mat4,
    /// A place above the robot's head, for what it says.
    pub mouth: Vec3,
    pub eye: Camera,
    pub view: Camera,
    /// The board before which the robot stands still.
    pub before: Option<usize>,
}

/// From where to where a camera looks, and its angle from top to bottom in degrees.
#[derive(Debug, Clone, Copy)]
pub struct Camera {
    pub from: Vec3,
    pub to: Vec3,
    pub angle: f32,
}

impl Camera {
    /// From the world to what is seen, for a picture of this width over height.
    pub fn matrix(&self, aspect: f32) -> Mat4 {
        Mat4::perspective_rh(self.angle.to_radians(), aspect, 0.1, 300.0)
            * Mat4::look_at_rh(self.from, self.to, Vec3::Y)
    }
}

/// Towards the sun.
pub fn sun() -> Vec3 {
    vec3(0.45, 0.75, 0.5).normalize()
}

/// A point at an angle round the lighthouse.
fn round(angle: f32, radius: f32, y: f32) -> Vec3 {
    vec3(radius * angle.cos(), y, radius * angle.sin())
}

/// At a point, turned so that z points along a direction.
fn facing(at: Vec3, towards: Vec3) -> Mat4 {
    Mat4::from_rotation_translation(Quat::from_rotation_y(towards.x.atan2(towards.z)), at)
}

impl Scene {
    pub fn new() -> Scene {
        let drawings = drawings::all();
        let (ground, mut things) = (ground(), Mesh::new());
        lighthouse(&mut things);
        for (k, drawing) in drawings.iter().enumerate() {
            let angle = TAU * k as f32 / drawings.len() as f32;
            board(&mut things, drawing, facing(round(angle, BOARDS, 0.0), round(angle, 1.0, 0.0)));
        }
        trees_and_crates(&mut things);
        Scene { ground, things, robot: robot(), drawings }
    }

    /// The scene at a time in seconds.
    pub fn at(&self, time: f32) -> Moment {
        let count = self.drawings.len();
        let turns = time.max(0.0) / (STAY + WAY);
        let (stop, within) = (turns.floor(), turns.fract() * (STAY + WAY));
        let way = ((within - STAY) / WAY).clamp(0.0, 1.0);
        let eased = way * way * (3.0 - 2.0 * way);
        let angle = TAU * (stop + eased) / count as f32;
        let bob = 0.05 * (2.4 * time).sin();
        let feet = round(angle, ROUND, 0.0);
        let target = round(angle, BOARDS, HEIGHT);
        let inwards = (target - feet).with_y(0.0).normalize();
        // It leans into the way it goes.
        let lean = Quat::from_rotation_z(0.28 * (std::f32::consts::PI * way).sin());
        let robot = facing(feet + bob * Vec3::Y, inwards) * Mat4::from_quat(lean);
        let eye = Camera { from: feet + 0.35 * inwards + vec3(0.0, HEIGHT, 0.0), to: target, angle: 37.0 };
        let beside = angle - 0.33;
        let view = Camera { from: round(beside, 17.6, 5.4), to: round(angle - 0.62, 3.2, 3.15), angle: 44.0 };
        let before = (way == 0.0).then_some(stop as usize % count);
        Moment { robot, mouth: feet + vec3(0.0, 2.35 + bob, 0.0), eye, view, before }
    }
}

fn ground() -> Mesh {
    let mut mesh = Mesh::new();
    mesh.paint(0x2f7fa6).ring(-0.5, 0.0, 280.0);
    mesh.paint(0xe3d29b).frustum((-0.6, 17.5), (-0.12, 16.2));
    mesh.paint(0x7dae54).frustum((-0.2, 15.0), (0.0, 14.6));
    mesh.paint(0xd8c9a0).ring(0.008, 6.9, 8.5);
    mesh.paint(0xb9b4a6).ring(0.008, 0.0, 2.9);
    mesh
}

fn lighthouse(mesh: &mut Mesh) {
    let radius = |y: f32| 1.75 - 0.085 * y;
    mesh.at(Mat4::IDENTITY).paint(0x8d8a83).frustum((0.0, 2.3), (0.5, 2.1));
    for band in 0..6 {
        let (low, high) = (0.5 + 1.25 * band as f32, 0.5 + 1.25 * (band + 1) as f32);
        mesh.paint(if band % 2 == 0 { 0xf4f1ea } else { 0xc8402f }).frustum((low, radius(low)), (high, radius(high)));
    }
    mesh.paint(0x3c4450).frustum((8.0, 1.5), (8.2, 1.5));
    mesh.glow(0xffe9a8).frustum((8.2, 0.72), (9.2, 0.72));
    mesh.paint(0x3c4450);
    for k in 0..8 {
        let post = round(TAU * k as f32 / 8.0, 0.78, 8.7);
        mesh.cuboid(post, vec3(0.09, 1.0, 0.09));
        mesh.cuboid(round(TAU * k as f32 / 8.0, 1.4, 8.5), vec3(0.06, 0.6, 0.06));
    }
    mesh.paint(0xc8402f).frustum((9.2, 1.05), (10.1, 0.05));
    for (k, y) in [2.0, 4.2, 6.2].into_iter().enumerate() {
        let angle = 0.7 + 2.2 * k as f32;
        let place = facing(round(angle, radius(y) - 0.06, y), round(angle, 1.0, 0.0));
        mesh.at(place).paint(0x35506b).cuboid(Vec3::ZERO, vec3(0.42, 0.62, 0.2));
    }
    mesh.at(Mat4::IDENTITY);
}

/// Two legs, a frame, paper, and a drawing in ink.
fn board(mesh: &mut Mesh, drawing: &Drawing, place: Mat4) {
    let size = 2.3;
    mesh.at(place).paint(0x6b4a2f);
    for side in [-0.9, 0.9] {
        mesh.cuboid(vec3(side, 1.25, -0.12), vec3(0.12, 2.5, 0.12));
    }
    mesh.paint(0x87603c).cuboid(vec3(0.0, HEIGHT, -0.04), vec3(size + 0.18, size + 0.18, 0.06));
    mesh.paint(0xf7f3e8).cuboid(vec3(0.0, HEIGHT, 0.0), vec3(size, size, 0.06));
    mesh.paint(0x1d2433);
    let spread = 0.62 * size;
    let on_paper = |p: &Vec2| vec2(spread * (p.x - 0.5), HEIGHT - spread * (p.y - 0.5));
    for stroke in &drawing.strokes {
        let points: Vec<Vec2> = stroke.iter().map(on_paper).collect();
        mesh.stroke(&points, 0.075, 0.045);
    }
}

fn trees_and_crates(mesh: &mut Mesh) {
    for k in 0..11 {
        let angle = 0.29 + TAU * k as f32 / 11.0;
        let size = 0.8 + 0.35 * ((k * 7 % 5) as f32 / 4.0);
        let place = Mat4::from_translation(round(angle, 12.6 + 0.9 * (k % 3) as f32 - 0.9, 0.0));
        mesh.at(place * Mat4::from_scale(Vec3::splat(size)));
        mesh.paint(0x6b4a2f).frustum((0.0, 0.2), (0.7, 0.16));
        mesh.paint(0x3f7d46).frustum((0.6, 0.95), (1.6, 0.3));
        mesh.paint(0x4c9152).frustum((1.3, 0.72), (2.5, 0.04));
    }
    for (angle, radius, size, turn) in
        [(0.95, 10.4, 0.9, 0.3), (1.07, 10.9, 0.6, 0.9), (3.0, 10.2, 0.8, 0.1), (5.0, 10.8, 0.95, 0.5)]
    {
        let place = Mat4::from_translation(round(angle, radius, 0.0)) * Mat4::from_rotation_y(turn);
        mesh.at(place).paint(0xa9793f).cuboid(vec3(0.0, 0.5 * size, 0.0), Vec3::splat(size));
        mesh.paint(0x7d5528).cuboid(vec3(0.0, 0.5 * size, 0.0), vec3(1.03 * size, 0.16 * size, 1.03 * size));
    }
}

fn robot() -> Mesh {
    let mut mesh = Mesh::new();
    mesh.glow(0x7fe3ff).frustum((0.16, 0.3), (0.24, 0.36));
    mesh.paint(0x39424f).frustum((0.24, 0.42), (0.42, 0.5));
    mesh.paint(0xf2a33a).cuboid(vec3(0.0, 0.78, 0.0), vec3(0.86, 0.7, 0.66));
    mesh.paint(0x39424f).cuboid(vec3(0.0, 0.78, 0.0), vec3(0.9, 0.14, 0.7));
    mesh.frustum((1.1, 0.16), (1.24, 0.16));
    for side in [-1.0, 1.0] {
        mesh.paint(0x39424f).cuboid(vec3(0.53 * side, 0.84, 0.05), vec3(0.16, 0.2, 0.2));
        mesh.paint(0xf2a33a).cuboid(vec3(0.55 * side, 0.66, 0.2), vec3(0.14, 0.16, 0.46));
    }
    mesh.paint(0xf7f3e8).cuboid(vec3(0.0, 1.5, 0.0), vec3(0.78, 0.52, 0.56));
    mesh.paint(0x1d2433).cuboid(vec3(0.0, 1.5, 0.27), vec3(0.6, 0.32, 0.06));
    mesh.glow(0x7fe3ff).cuboid(vec3(0.0, 1.5, 0.3), vec3(0.16, 0.16, 0.04));
    mesh.paint(0x39424f).cuboid(vec3(0.24, 1.88, -0.08), vec3(0.04, 0.3, 0.04));
    mesh.glow(0xff6b57).cuboid(vec3(0.24, 2.06, -0.08), vec3(0.11, 0.11, 0.11));
    mesh
}
