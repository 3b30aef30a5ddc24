"""What tests are made with: real archives, servers, projects and programs, one builder each."""
