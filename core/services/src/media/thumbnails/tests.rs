//! Which size a request gets.

use super::*;

#[test]
fn a_request_gets_the_next_larger_size() {
    let size = |width, height, method| {
        let request = ThumbnailRequest { width, height, method, wait: None };
        snapped(&request).map(|size| (size.width, size.height))
    };
    assert_eq!(size(1, 1, Method::Crop), Some((32, 32)));
    assert_eq!(size(33, 33, Method::Crop), Some((96, 96)));
    assert_eq!(size(97, 97, Method::Crop), Some((240, 240)));
    assert_eq!(size(97, 97, Method::Scale), Some((320, 240)));
    assert_eq!(size(320, 240, Method::Crop), Some((320, 240)));
    assert_eq!(size(100, 300, Method::Scale), Some((640, 480)));
    assert_eq!(size(800, 600, Method::Scale), Some((800, 600)));
    assert_eq!(size(801, 600, Method::Scale), None);
    assert_eq!(size(u32::MAX, 1, Method::Crop), None);
}
