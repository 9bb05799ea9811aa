//! Triangles from boxes, frusta, discs and strokes: all that the scene is built of.

use bytemuck::{Pod, Zeroable};
use glam::{Mat4, Vec2, Vec3};
use std::f32::consts::TAU;

/// A corner of a triangle.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct Vertex {
    position: [f32; 3],
    normal: [f32; 3],
    /// Linear red, green and blue, and how much of it shines by itself.
    colour: [f32; 4],
}

/// The layout of [`Vertex`] for the shader's first three locations.
pub const ATTRIBUTES: [lampyris::wgpu::VertexAttribute; 3] =
    lampyris::wgpu::vertex_attr_array![0 => Float32x3, 1 => Float32x3, 2 => Float32x4];

/// A colour as pictures have it, red in the highest byte, as linear light.
pub fn linear(hex: u32) -> [f32; 3] {
    [16, 8, 0].map(|shift| ((hex >> shift & 255) as f32 / 255.0).powf(2.2))
}

/// Triangles that are drawn together, with the place and the colour of what comes next.
#[derive(Debug, Default)]
pub struct Mesh {
    pub vertices: Vec<Vertex>,
    place: Mat4,
    colour: [f32; 4],
}

impl Mesh {
    pub fn new() -> Mesh {
        Mesh { vertices: Vec::new(), place: Mat4::IDENTITY, colour: [1.0; 4] }
    }

    /// Where the next shapes stand.
    pub fn at(&mut self, place: Mat4) -> &mut Mesh {
        self.place = place;
        self
    }

    /// What colour the next shapes have.
    pub fn paint(&mut self, hex: u32) -> &mut Mesh {
        let [r, g, b] = linear(hex);
        self.colour = [r, g, b, 0.0];
        self
    }

    /// As [`Mesh::paint`], for what shines by itself.
    pub fn glow(&mut self, hex: u32) -> &mut Mesh {
        let [r, g, b] = linear(hex);
        self.colour = [r, g, b, 1.0];
        self
    }

    fn corner(&mut self, position: Vec3, normal: Vec3) {
        let position = self.place.transform_point3(position).to_array();
        let normal = self.place.transform_vector3(normal).normalize_or_zero().to_array();
        self.vertices.push(Vertex { position, normal, colour: self.colour });
    }

    /// A flat piece with four corners, in order round it.
    fn quad(&mut self, corners: [Vec3; 4]) {
        let normal = (corners[1] - corners[0]).cross(corners[2] - corners[0]);
        for k in [0, 1, 2, 0, 2, 3] {
            self.corner(corners[k], normal);
        }
    }

    /// A box about a centre.
    pub fn cuboid(&mut self, centre: Vec3, size: Vec3) -> &mut Mesh {
        let half = 0.5 * size;
        for axis in 0..3 {
            for side in [-1.0, 1.0] {
                let mut out = Vec3::ZERO;
                let (mut along, mut across) = (out, out);
                (out[axis], along[(axis + 1) % 3], across[(axis + 2) % 3]) = (side, side, 1.0);
                let at = |a: f32, b: f32| centre + (out + a * along + b * across) * half;
                self.quad([at(-1.0, -1.0), at(1.0, -1.0), at(1.0, 1.0), at(-1.0, 1.0)]);
            }
        }
        self
    }

    /// A round piece that stands upright, from one height and radius to another, closed above.
    pub fn frustum(&mut self, (y0, r0): (f32, f32), (y1, r1): (f32, f32)) -> &mut Mesh {
        const SIDES: usize = 28;
        let at = |k: usize, y: f32, r: f32| {
            let (sin, cos) = (TAU * k as f32 / SIDES as f32).sin_cos();
            Vec3::new(r * cos, y, r * sin)
        };
        let slope = (r0 - r1) / (y1 - y0).max(1e-6);
        for k in 0..SIDES {
            let corners = [(k, y0, r0), (k, y1, r1), (k + 1, y1, r1), (k, y0, r0), (k + 1, y1, r1), (k + 1, y0, r0)];
            for (k, y, r) in corners {
                self.corner(at(k, y, r), at(k, slope, 1.0));
            }
        }
        self.ring(y1, 0.0, r1)
    }

    /// A flat ring that looks upwards, or a disc where the inner radius is nothing.
    pub fn ring(&mut self, y: f32, inner: f32, outer: f32) -> &mut Mesh {
        const SIDES: usize = 64;
        for k in 0..SIDES {
            let at = |k: usize, r: f32| {
                let (sin, cos) = (TAU * k as f32 / SIDES as f32).sin_cos();
                Vec3::new(r * cos, y, r * sin)
            };
            self.quad([at(k, inner), at(k + 1, inner), at(k + 1, outer), at(k, outer)].map(|p| p));
        }
        // Whatever way the corners run, the light comes from above.
        let from = self.vertices.len() - 6 * SIDES;
        let up = self.place.transform_vector3(Vec3::Y).normalize_or_zero().to_array();
        self.vertices[from..].iter_mut().for_each(|vertex| vertex.normal = up);
        self
    }

    /// A line of this width through points of the plane `z = depth`, round at every point.
    pub fn stroke(&mut self, points: &[Vec2], width: f32, depth: f32) -> &mut Mesh {
        let half = 0.5 * width;
        for pair in points.windows(2) {
            let side = half * (pair[1] - pair[0]).perp().normalize_or_zero();
            let corners = [pair[0] - side, pair[1] - side, pair[1] + side, pair[0] + side];
            self.quad(corners.map(|p| p.extend(depth)));
        }
        const SIDES: usize = 10;
        for centre in points {
            let rim = |k: usize| *centre + half * Vec2::from_angle(TAU * k as f32 / SIDES as f32);
            for k in 0..SIDES {
                [*centre, rim(k), rim(k + 1)].into_iter().for_each(|p| self.corner(p.extend(depth), Vec3::Z));
            }
        }
        self
    }
}
