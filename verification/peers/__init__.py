"""What judging real libraries printed: one page for each adapter, and how the pages are made again."""
