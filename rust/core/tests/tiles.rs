//! Grouping by tile against a sort and the published rule.

use geotessera_core::tiles::group_by_tile;
use geotessera_core::view::View;
use proptest::prelude::*;

/// Centre × 100 by the published rule, written out.
fn key(value: f64) -> i32 {
    (((value * 10.0).floor() / 10.0 + 0.05) * 100.0).round() as i32
}

proptest! {
    #[test]
    fn groups_are_a_stable_sort(points in prop::collection::vec((-180.0..179.9f64, -90.0..89.9f64), 0..300), near: bool) {
        let squeeze = if near { 0.003 } else { 1.0 };
        let flat: Vec<f64> = points.iter().flat_map(|&(x, y)| [x * squeeze, y * squeeze]).collect();
        let groups = group_by_tile(View::new("points", &flat, [points.len(), 2]).unwrap()).unwrap();
        let keys: Vec<[i32; 2]> = flat.chunks(2).map(|p| [key(p[0]), key(p[1])]).collect();
        let mut rows: Vec<usize> = (0..points.len()).collect();
        rows.sort_by_key(|&row| keys[row]);
        prop_assert_eq!(&groups.order, &rows.iter().map(|&r| r as i64).collect::<Vec<_>>());
        let mut tiles: Vec<[i32; 2]> = rows.iter().map(|&row| keys[row]).collect();
        tiles.dedup();
        prop_assert_eq!(&groups.tiles, &tiles);
        prop_assert_eq!(groups.offsets.len(), tiles.len() + 1);
        for (tile, span) in tiles.iter().zip(groups.offsets.windows(2)) {
            for &row in &groups.order[span[0] as usize..span[1] as usize] {
                prop_assert_eq!(&keys[row as usize], tile);
            }
        }
    }
}

#[test]
fn the_edges_of_the_globe_are_on_it() {
    let points = [180.0, 90.0, -180.0, -90.0];
    let groups = group_by_tile(View::new("points", &points, [2, 2]).unwrap()).unwrap();
    assert_eq!(groups.tiles, [[-17995, -8995], [-17995, 8995]]);
    assert_eq!(groups.order, [1, 0]);
}

#[test]
fn the_first_bad_point_is_named() {
    let mut points = vec![0.0; 200_000];
    points[2 * 99_999] = f64::NAN;
    points[2 * 70_001 + 1] = 90.5;
    let error = group_by_tile(View::new("points", &points, [100_000, 2]).unwrap()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("point 70001 (longitude 0, latitude 90.5)"),
        "{error}"
    );
}
