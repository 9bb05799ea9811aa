//! A GGUF file written part by part is the file that is written whole, and a failure leaves what was there.

use std::fs;

use super::super::WeightsError;
use super::super::blocks::BlockFormat;
use super::super::gguf::{BlocksLayout, Gguf, MetadataValue, NewBlocks, ValueType, gguf_bytes, write_gguf_with};

const SHAPES: [(&str, BlockFormat, &[usize]); 3] =
    [("b", BlockFormat::Q8_0, &[3, 64]), ("a", BlockFormat::F32, &[5]), ("none", BlockFormat::F16, &[0, 7])];

fn data() -> Vec<Vec<u8>> {
    let size = |(_, format, shape): &(&str, BlockFormat, &[usize])| {
        shape.iter().product::<usize>() / format.block_elements() * format.block_bytes()
    };
    SHAPES.iter().map(size).map(|size| (0..size).map(|byte| byte as u8).collect()).collect()
}

fn metadata() -> Vec<(&'static str, MetadataValue)> {
    let list = vec![MetadataValue::String("x".to_owned()), MetadataValue::String("yz".to_owned())];
    vec![
        ("general.architecture", MetadataValue::String("t".to_owned())),
        ("l", MetadataValue::Array(ValueType::String, list)),
    ]
}

fn layouts() -> Vec<BlocksLayout<'static>> {
    SHAPES.iter().map(|&(name, format, shape)| BlocksLayout { name, format, shape }).collect()
}

#[test]
fn parts_make_the_file_that_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamed.gguf");
    let data = data();
    write_gguf_with(&path, &metadata(), &layouts(), |number, sink| -> Result<(), WeightsError> {
        data[number].chunks(7).try_for_each(|part| sink.put(part))
    })
    .unwrap();
    let whole: Vec<NewBlocks<'_>> = SHAPES
        .iter()
        .zip(&data)
        .map(|(&(name, format, shape), bytes)| NewBlocks { name, format, shape, bytes })
        .collect();
    let written = fs::read(&path).unwrap();
    assert_eq!(written, gguf_bytes("streamed.gguf", &metadata(), &whole).unwrap());
    // What is read back is written again as it was.
    let gguf = Gguf::open(&path).unwrap();
    let copied: Vec<(String, MetadataValue)> =
        gguf.metadata().map(|(key, value)| (key.to_owned(), value.into())).collect();
    assert_eq!(written, gguf_bytes("streamed.gguf", &copied, &whole).unwrap());
}

#[test]
fn a_failure_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamed.gguf");
    fs::write(&path, "old").unwrap();
    let data = data();
    // Too few bytes, too many, and an error of the one who fills.
    for (cut, more, fails) in [(1, 0, false), (0, 3, false), (0, 0, true)] {
        let written = write_gguf_with(&path, &metadata(), &layouts(), |number, sink| {
            if fails && number == 1 {
                return Err(WeightsError::Empty { file: "another".to_owned() });
            }
            sink.put(&data[number][..data[number].len().saturating_sub(cut)])?;
            sink.put(&[0; 3][..more])
        });
        let named = if fails { "another" } else { "tensor `b`" };
        let said = written.unwrap_err().to_string();
        assert!(said.contains(named), "{said}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
