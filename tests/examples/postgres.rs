//! A PostgreSQL for the tests of the Python and Node packages: writes the address of a database and goes on until its
//! input ends. That is when the test that started it ends, however it does; server and data are gone then.
//!
//! Where no PostgreSQL is installed, this says so and writes nothing, or fails with `REQUIRE_SERVICES=1`.

use std::io::{self, Write};

use scan_pipeline_tests::postgres::start;

fn main() -> io::Result<()> {
    let Some(server) = start() else { return Ok(()) };
    let database = server.database();
    writeln!(io::stdout(), "{}", database.url())?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
